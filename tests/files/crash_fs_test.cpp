// SPDX-License-Identifier: BSD-3-Clause
// The crash simulator itself: it loses what POSIX allows to be lost, and never what was synced.
#include "support/crash_fs.h"

#include <gtest/gtest.h>
#include <set>
#include <string>
#include <string_view>

#include "support/memory_fs.h"
#include "support/whole_file.h"

namespace torchkeep::testing {
namespace {

using Texts = std::set<std::string>;

/// What a path reads in an image; "-" where it does not exist.
std::string content(const CrashImage& image, const std::string& path) {
  MemoryFs fs(image.disk);
  return fs.status(path) ? read_file(fs, path) : "-";
}

/// Every content that some crash leaves at `path`.
Texts contents(const CrashFs& crash, const std::string& path) {
  Texts seen;
  crash.for_each_image({}, [&](const CrashImage& image) { seen.insert(content(image, path)); });
  return seen;
}

Disk disk_with(const std::string& path, std::string_view text) {
  MemoryFs fs;
  create_file(fs, path, text);
  return fs.disk();
}

TEST(CrashFs, AnUnsyncedWriteIsThereOrNotOrCutOrZeros) {
  CrashFs crash(disk_with("/a", "old."));
  crash.fs().open_write("/a")->write_at(2, as_bytes("1234"));
  EXPECT_EQ(contents(crash, "/a"), (Texts{"old.", "ol1234", "ol12", std::string("old.\0\0", 6)}));
}

TEST(CrashFs, ASyncedWriteIsThere) {
  CrashFs crash(disk_with("/a", "old"));
  const auto file = crash.fs().open_write("/a");
  file->write_at(0, as_bytes("new"));
  file->sync();
  crash.acknowledge(1);
  crash.for_each_image({}, [&](const CrashImage& image) {
    if (image.acknowledged == 1) {
      EXPECT_EQ(content(image, "/a"), "new") << crash.story(image);
    }
  });
}

TEST(CrashFs, UnsyncedWritesAreLostIndependently) {
  CrashFs crash(disk_with("/a", "...."));
  const auto file = crash.fs().open_write("/a");
  file->write_at(0, as_bytes("1"));
  file->write_at(3, as_bytes("4"));
  EXPECT_EQ(contents(crash, "/a"), (Texts{"....", "1...", "...4", "1..4"}));
}

TEST(CrashFs, ASyncedFileMayStillLoseItsName) {
  CrashFs crash;
  const auto file = crash.fs().create("/a", {});
  file->write_at(0, as_bytes("text"));
  file->sync();
  crash.acknowledge(1);
  Texts seen;
  crash.for_each_image({}, [&](const CrashImage& image) {
    if (image.acknowledged == 1) seen.insert(content(image, "/a"));
  });
  EXPECT_EQ(seen, (Texts{"-", "text"}));
}

TEST(CrashFs, ASyncedNameMayStillLoseItsBytes) {
  CrashFs crash;
  crash.fs().create("/a", {})->write_at(0, as_bytes("text"));
  crash.fs().sync_directory("/");
  crash.acknowledge(1);
  Texts seen;
  crash.for_each_image({}, [&](const CrashImage& image) {
    if (image.acknowledged == 1) seen.insert(content(image, "/a"));
  });
  EXPECT_EQ(seen, (Texts{"", "te", "text", std::string(4, '\0')}));
}

TEST(CrashFs, EveryImageIsShownOnce) {
  CrashFs crash;
  crash.fs().create("/a", {})->write_at(0, as_bytes("abcd"));
  // Nothing; the empty file; its beginning; its length; all of it.
  const CrashCount count = crash.for_each_image({}, [](const CrashImage&) {});
  EXPECT_EQ(count.images, 5U);
  EXPECT_TRUE(count.exhaustive);
}

TEST(CrashFs, ARenameWithinAFolderIsNeverHalfDone) {
  CrashFs crash(disk_with("/a", "text"));
  crash.fs().rename("/a", "/b");
  std::size_t images = 0;
  crash.for_each_image({}, [&](const CrashImage& image) {
    ++images;
    EXPECT_NE(content(image, "/a") == "-", content(image, "/b") == "-") << crash.story(image);
  });
  EXPECT_EQ(images, 2U);
}

TEST(CrashFs, ARenameBetweenFoldersMayBeHalfDone) {
  MemoryFs memory;
  memory.make_directory("/d");
  create_file(memory, "/a", "text");
  CrashFs crash(memory.disk());
  crash.fs().rename("/a", "/d/a");
  Texts seen;
  crash.for_each_image(
      {}, [&](const CrashImage& image) { seen.insert(content(image, "/a") + " " + content(image, "/d/a")); });
  EXPECT_EQ(seen, (Texts{"text -", "- text", "text text", "- -"}));
}

TEST(CrashFs, AnUnsyncedRemovalMayComeBack) {
  CrashFs crash(disk_with("/a", "text"));
  crash.fs().remove("/a");
  crash.acknowledge(1);
  EXPECT_EQ(contents(crash, "/a"), (Texts{"text", "-"}));
  crash.fs().sync_directory("/");
  crash.acknowledge(2);
  crash.for_each_image({}, [&](const CrashImage& image) {
    if (image.acknowledged == 2) {
      EXPECT_EQ(content(image, "/a"), "-");
    }
  });
}

TEST(CrashFs, AFolderWhoseNameWasNotSyncedIsLostWithAllInIt) {
  CrashFs crash;
  crash.fs().make_directory("/d");
  create_file(crash.fs(), "/d/a", "text");
  crash.acknowledge(1);
  Texts seen;
  crash.for_each_image({}, [&](const CrashImage& image) {
    if (image.acknowledged == 1) seen.insert(content(image, "/d/a"));
  });
  EXPECT_EQ(seen, (Texts{"-", "text"}));
}

TEST(CrashFs, SyncingOneFileDoesNotSyncAnother) {
  CrashFs crash(disk_with("/a", "old"));
  crash.fs().open_write("/a")->write_at(0, as_bytes("new"));
  create_file(crash.fs(), "/b", "text");
  crash.acknowledge(1);
  Texts seen;
  crash.for_each_image({}, [&](const CrashImage& image) {
    if (image.acknowledged == 1) seen.insert(content(image, "/a") + content(image, "/b"));
  });
  EXPECT_TRUE(seen.contains("oldtext"));
  EXPECT_TRUE(seen.contains("newtext"));
}

TEST(CrashFs, AKillKeepsAllButMayCutTheWriteUnderWay) {
  CrashFs crash(disk_with("/a", ""));
  const auto file = crash.fs().open_write("/a");
  for (int i = 0; i < 8; ++i) file->write_at(static_cast<std::uint64_t>(i) * 2, as_bytes("ab"));
  // Far more combinations than the budget: the kills must be there all the same.
  Texts seen;
  const CrashCount count = crash.for_each_image({.images_per_point = 1, .seed = 1},
                                                [&](const CrashImage& image) { seen.insert(content(image, "/a")); });
  EXPECT_FALSE(count.exhaustive);
  for (std::size_t length = 0; length <= 16; ++length) {
    EXPECT_TRUE(seen.contains(std::string("abababababababab").substr(0, length))) << length;
  }
}

TEST(CrashFs, BeyondTheBudgetImagesAreDrawnBySeed) {
  CrashFs crash(disk_with("/a", ""));
  const auto file = crash.fs().open_write("/a");
  for (int i = 0; i < 12; ++i) file->write_at(static_cast<std::uint64_t>(i) * 4, as_bytes("abcd"));
  const auto draw = [&](std::uint64_t seed) {
    Texts seen;
    crash.for_each_image({.images_per_point = 500, .seed = seed},
                         [&](const CrashImage& image) { seen.insert(content(image, "/a")); });
    return seen;
  };
  EXPECT_EQ(draw(1), draw(1));
  EXPECT_NE(draw(1), draw(2));
  EXPECT_GT(draw(1).size(), 300U);
}

TEST(CrashFs, TellsTheStoryOfAnImage) {
  CrashFs crash(disk_with("/a", "old"));
  crash.fs().open_write("/a")->write_at(0, as_bytes("new"));
  std::string stories;
  crash.for_each_image({}, [&](const CrashImage& image) { stories += crash.story(image); });
  EXPECT_NE(stories.find("lost: write 3 bytes at 0"), std::string::npos) << stories;
}

}  // namespace
}  // namespace torchkeep::testing
