// SPDX-License-Identifier: BSD-3-Clause
// publish() on every disk that a kill or a power cut could leave, and the protocols it is not.
#include <functional>
#include <gtest/gtest.h>
#include <string>

#include <torchkeep/files/publish.h>

#include "support/crash_fs.h"
#include "support/memory_fs.h"
#include "support/ring_fs.h"
#include "support/whole_file.h"

namespace torchkeep {
namespace {

using torchkeep::testing::CrashCount;
using torchkeep::testing::CrashFs;
using torchkeep::testing::CrashImage;
using torchkeep::testing::create_file;
using torchkeep::testing::Disk;
using torchkeep::testing::Fate;
using torchkeep::testing::MemoryFs;
using torchkeep::testing::read_file;

const std::string kOld = "the old checkpoint";
const std::string kNew = "a newer checkpoint";  // as long: writing in place leaves no tail of the old one

/// What the images of one protocol showed.
struct Verdict {
  CrashCount count;
  std::size_t neither = 0;                ///< neither the old nor the new file
  std::size_t acknowledged_but_lost = 0;  ///< not the new file, though the protocol had said it is safe
  std::string first_story;
};

/// Writes kNew in three pieces, not in order.
void fill(File& file) {
  const Bytes bytes = as_bytes(kNew);
  file.write_at(0, bytes.first(5));
  file.write_at(12, bytes.subspan(12));
  file.write_at(5, bytes.subspan(5, 7));
}

/// Replaces /runs/a.pt, which reads kOld, by `protocol` and looks at every crash.
Verdict judge(const std::function<void(Fs&)>& protocol) {
  MemoryFs before;
  before.make_directory("/runs");
  create_file(before, "/runs/a.pt", kOld);
  CrashFs crash(before.disk());
  protocol(crash.fs());
  crash.acknowledge(1);
  Verdict verdict;
  verdict.count = crash.for_each_image({}, [&](const CrashImage& image) {
    MemoryFs fs(image.disk);
    const std::string found = fs.status("/runs/a.pt") ? read_file(fs, "/runs/a.pt") : "";
    const bool neither = found != kOld && found != kNew;
    const bool lost = image.acknowledged == 1 && found != kNew;
    verdict.neither += neither;
    verdict.acknowledged_but_lost += lost;
    if ((neither || lost) && verdict.first_story.empty()) verdict.first_story = crash.story(image) + found;
  });
  return verdict;
}

/// The steps of publish(), each of which can be left out.
struct Steps {
  bool sync_file = true;
  bool sync_folder = true;
};
void temp_and_rename(Fs& fs, const Steps& steps) {
  const auto file = fs.create("/runs/.tmp", {});
  fill(*file);
  if (steps.sync_file) file->sync();
  file->close();
  fs.rename("/runs/.tmp", "/runs/a.pt");
  if (steps.sync_folder) fs.sync_directory("/runs");
}

TEST(PublishCrash, EveryImageIsOldOrNewAndNewOnceAcknowledged) {
  const Verdict verdict = judge([](Fs& fs) { publish(fs, "/runs/a.pt", fill); });
  EXPECT_TRUE(verdict.count.exhaustive);
  EXPECT_GT(verdict.count.images, 40U);
  EXPECT_EQ(verdict.neither, 0U) << verdict.first_story;
  EXPECT_EQ(verdict.acknowledged_but_lost, 0U) << verdict.first_story;
}

TEST(PublishCrash, TheSameThroughARingOfBlocks) {
  const auto in_order = [](File& file) { file.write_at(0, as_bytes(kNew)); };
  for (const std::function<void(File&)>& way :
       {std::function<void(File&)>(fill), std::function<void(File&)>(in_order)}) {
    for (std::uint64_t seed = 1; seed <= 4; ++seed) {
      const Verdict verdict = judge([&](Fs& inner) {
        torchkeep::testing::RingFs fs(inner, {.seed = seed});
        publish(fs, "/runs/a.pt", way, {.size = kNew.size()});
      });
      EXPECT_TRUE(verdict.count.exhaustive);
      EXPECT_EQ(verdict.neither, 0U) << verdict.first_story;
      EXPECT_EQ(verdict.acknowledged_but_lost, 0U) << verdict.first_story;
    }
  }
}

TEST(PublishCrash, TheSameThroughALinkIntoAnotherFolder) {
  MemoryFs before;
  before.make_directory("/runs");
  before.make_directory("/data");
  create_file(before, "/data/real.pt", kOld);
  before.add_link("/runs/a.pt", "../data/real.pt");
  CrashFs crash(before.disk());
  publish(crash.fs(), "/runs/a.pt", fill);
  crash.acknowledge(1);
  crash.for_each_image({}, [&](const CrashImage& image) {
    MemoryFs fs(image.disk);
    const std::string found = read_file(fs, "/runs/a.pt");
    EXPECT_TRUE(found == kNew || (found == kOld && image.acknowledged == 0)) << crash.story(image);
  });
}

TEST(PublishCrash, ANewFileIsCompleteOrAbsentAndThereOnceAcknowledged) {
  CrashFs crash;
  make_directories(crash.fs(), "/runs/shakespeare");
  publish(crash.fs(), "/runs/shakespeare/a.pt", fill);
  crash.acknowledge(1);
  crash.for_each_image({}, [&](const CrashImage& image) {
    MemoryFs fs(image.disk);
    const bool there = fs.status("/runs/shakespeare/a.pt").has_value();
    EXPECT_TRUE(there || image.acknowledged == 0) << crash.story(image);
    if (there) {
      EXPECT_EQ(read_file(fs, "/runs/shakespeare/a.pt"), kNew) << crash.story(image);
    }
  });
}

TEST(PublishCrash, ASeriesNeverFallsBehindItsLastAcknowledgement) {
  CrashFs crash;
  const auto text = [](int version) { return "checkpoint " + std::to_string(version); };
  for (int version = 1; version <= 5; ++version) {
    publish(crash.fs(), "/a.pt", as_bytes(text(version)));
    crash.acknowledge(version);
  }
  const CrashCount count = crash.for_each_image({}, [&](const CrashImage& image) {
    MemoryFs fs(image.disk);
    const std::string found = fs.status("/a.pt") ? read_file(fs, "/a.pt") : text(0);
    EXPECT_TRUE(found == text(image.acknowledged) || found == text(image.acknowledged + 1)) << crash.story(image);
  });
  EXPECT_TRUE(count.exhaustive);
}

TEST(PublishCrash, OnlyTemporaryFilesAreLeftOver) {
  CrashFs crash;
  publish(crash.fs(), "/a.pt", fill);
  bool some = false;
  crash.for_each_image({}, [&](const CrashImage& image) {
    MemoryFs fs(image.disk);
    some = remove_temporaries(fs, "/") > 0 || some;
    for (const std::string& name : fs.list("/")) EXPECT_EQ(name, "a.pt") << crash.story(image);
  });
  EXPECT_TRUE(some);
}

/// The process died, the system went on: nothing is lost but the end of the last write.
bool is_kill(const CrashImage& image) {
  for (std::size_t i = 0; i < image.fates.size(); ++i) {
    const bool last = i + 1 == image.fates.size();
    const Fate::Kind kind = image.fates[i].kind;
    if (kind != Fate::Kind::done && !(last && kind == Fate::Kind::beginning)) return false;
  }
  return true;
}

TEST(PublishCrash, WithoutDurableAKillLeavesOldOrNewAndAPowerCutMayDamage) {
  MemoryFs before;
  create_file(before, "/a.pt", kOld);
  CrashFs crash(before.disk());
  publish(crash.fs(), "/a.pt", fill, {.durable = false});
  crash.acknowledge(1);
  std::size_t kills = 0;
  std::size_t damaged = 0;
  crash.for_each_image({}, [&](const CrashImage& image) {
    MemoryFs fs(image.disk);
    const std::string found = read_file(fs, "/a.pt");
    damaged += found != kOld && found != kNew;
    if (!is_kill(image)) return;
    ++kills;
    EXPECT_TRUE(found == kNew || (found == kOld && image.acknowledged == 0)) << crash.story(image);
  });
  EXPECT_GE(kills, 8U);
  EXPECT_GT(damaged, 0U);
}

TEST(BrokenProtocol, TheFullOneWrittenByHandPasses) {
  const Verdict verdict = judge([](Fs& fs) { temp_and_rename(fs, {}); });
  EXPECT_EQ(verdict.neither, 0U) << verdict.first_story;
  EXPECT_EQ(verdict.acknowledged_but_lost, 0U) << verdict.first_story;
}

TEST(BrokenProtocol, WithoutFileSyncIsFlagged) {
  const Verdict verdict = judge([](Fs& fs) { temp_and_rename(fs, {.sync_file = false, .sync_folder = true}); });
  EXPECT_GT(verdict.neither, 0U);
  EXPECT_GT(verdict.acknowledged_but_lost, 0U);
}

TEST(BrokenProtocol, WithoutFolderSyncIsFlagged) {
  const Verdict verdict = judge([](Fs& fs) { temp_and_rename(fs, {.sync_file = true, .sync_folder = false}); });
  EXPECT_EQ(verdict.neither, 0U) << verdict.first_story;
  EXPECT_GT(verdict.acknowledged_but_lost, 0U);
}

TEST(BrokenProtocol, WritingInPlaceIsFlagged) {
  const Verdict verdict = judge([](Fs& fs) {
    const auto file = fs.open_write("/runs/a.pt");
    fill(*file);
    file->sync();
    file->close();
  });
  EXPECT_GT(verdict.neither, 0U);
  EXPECT_EQ(verdict.acknowledged_but_lost, 0U) << verdict.first_story;
}

TEST(BrokenProtocol, RemovingBeforeRenamingIsFlagged) {
  const Verdict verdict = judge([](Fs& fs) {
    create_file(fs, "/runs/.tmp", kNew);
    fs.remove("/runs/a.pt");
    fs.rename("/runs/.tmp", "/runs/a.pt");
    fs.sync_directory("/runs");
  });
  EXPECT_GT(verdict.neither, 0U);
  EXPECT_EQ(verdict.acknowledged_but_lost, 0U) << verdict.first_story;
}

TEST(BrokenProtocol, SyncingBeforeTheLastWriteIsFlagged) {
  const Verdict verdict = judge([](Fs& fs) {
    const auto file = fs.create("/runs/.tmp", {});
    file->write_at(0, as_bytes(kNew).first(5));
    file->sync();
    file->write_at(5, as_bytes(kNew).subspan(5));
    fs.rename("/runs/.tmp", "/runs/a.pt");
    fs.sync_directory("/runs");
  });
  EXPECT_GT(verdict.neither, 0U);
  EXPECT_GT(verdict.acknowledged_but_lost, 0U);
}

TEST(BrokenProtocol, SyncingAfterTheRenameIsFlagged) {
  const Verdict verdict = judge([](Fs& fs) {
    const auto file = fs.create("/runs/.tmp", {});
    fill(*file);
    fs.rename("/runs/.tmp", "/runs/a.pt");
    file->sync();
    fs.sync_directory("/runs");
  });
  EXPECT_GT(verdict.neither, 0U);
  EXPECT_EQ(verdict.acknowledged_but_lost, 0U) << verdict.first_story;
}

TEST(BrokenProtocol, SyncingTheWrongFolderIsFlagged) {
  const Verdict verdict = judge([](Fs& fs) {
    temp_and_rename(fs, {.sync_file = true, .sync_folder = false});
    fs.sync_directory("/");
  });
  EXPECT_GT(verdict.acknowledged_but_lost, 0U);
}

}  // namespace
}  // namespace torchkeep
