// SPDX-License-Identifier: BSD-3-Clause
// The newest checkpoint that verifies is used, and nothing is lost or begun anew in silence.
#include "recover.h"

#include <cstring>
#include <functional>
#include <gtest/gtest.h>
#include <map>
#include <string>

#include <torchkeep/base/crc32.h>
#include <torchkeep/checkpoint/checkpoint.h>
#include <torchkeep/run/checkpoints.h>

#include "fake_training.h"
#include "support/expect_error.h"
#include "support/fault_fs.h"
#include "support/memory_fs.h"
#include "support/whole_file.h"

namespace torchkeep {
namespace {

using torchkeep::testing::create_file;
using torchkeep::testing::FakeRun;
using torchkeep::testing::FakeTraining;
using torchkeep::testing::FaultFs;
using torchkeep::testing::MemoryFs;
using torchkeep::testing::read_file;

std::string path(std::int64_t step) {
  return "/run/step-0000000" + std::to_string(step) + ".pt";
}

/// A run of four steps with a checkpoint of each.
MemoryFs& four_steps(MemoryFs& fs) {
  FakeRun(fs, {.save_every = 1, .keep_last = 0}).train(4);
  return fs;
}

/// Changes one bit of the model in the checkpoint of a step.
void flip_a_bit(Fs& fs, std::int64_t step) {
  const std::string model = FakeTraining::after(step)["model"].as_tensor().contiguous_bytes();
  const std::size_t where = read_file(fs, path(step)).find(model) + 9;
  const char flipped = static_cast<char>(model.at(9) ^ 1);
  fs.open_write(path(step))->write_at(where, as_bytes(std::string_view(&flipped, 1)));
}

void truncate(Fs& fs, const std::string& file, std::size_t size) {
  const std::string bytes = read_file(fs, file);
  fs.remove(file);
  create_file(fs, file, bytes.substr(0, size));
}

TEST(Recover, TakesTheNewestWhole) {
  MemoryFs fs;
  const auto found = recover(CheckpointStore(four_steps(fs), "/run"), Role::writer);
  ASSERT_TRUE(found);
  EXPECT_EQ(found->step, 4);
  EXPECT_EQ(found->path, path(4));
  EXPECT_EQ(found->checkpoint["model"], FakeTraining::after(4)["model"]);
  EXPECT_TRUE(found->damaged.empty());
}

TEST(Recover, FindsNothingInAnEmptyOrMissingFolder) {
  MemoryFs fs;
  EXPECT_FALSE(recover(CheckpointStore(fs, "/run"), Role::writer));
  fs.make_directory("/run");
  create_file(fs, "/run/metrics.jsonl", "{\"step\":1}\n");
  EXPECT_FALSE(recover(CheckpointStore(fs, "/run"), Role::writer));
}

TEST(Recover, SetsAsideAFlippedBitAndATruncationAndTakesTheNextOlder) {
  MemoryFs fs;
  flip_a_bit(four_steps(fs), 4);
  truncate(fs, path(3), 1000);
  const auto found = recover(CheckpointStore(fs, "/run"), Role::writer);
  ASSERT_TRUE(found);
  EXPECT_EQ(found->step, 2);
  EXPECT_EQ(found->checkpoint["model"], FakeTraining::after(2)["model"]);
  ASSERT_EQ(found->damaged.size(), 2U);
  EXPECT_EQ(found->damaged[0].path, path(4) + ".broken");
  EXPECT_NE(found->damaged[0].reason.find("CRC"), std::string::npos) << found->damaged[0].reason;
  EXPECT_EQ(found->damaged[1].path, path(3) + ".broken");
  EXPECT_FALSE(fs.status(path(4)));
  EXPECT_TRUE(fs.status(path(4) + ".broken"));
}

TEST(Recover, KeepsEveryFileItSetAside) {
  MemoryFs fs;
  four_steps(fs);
  create_file(fs, path(4) + ".broken", "the first one");
  flip_a_bit(fs, 4);
  EXPECT_EQ(recover(CheckpointStore(fs, "/run"), Role::writer)->damaged.at(0).path, path(4) + ".broken-2");
  EXPECT_EQ(read_file(fs, path(4) + ".broken"), "the first one");
}

TEST(Recover, AReaderRenamesNothing) {
  MemoryFs fs;
  flip_a_bit(four_steps(fs), 4);
  const auto found = recover(CheckpointStore(fs, "/run"), Role::reader);
  EXPECT_EQ(found->step, 3);
  EXPECT_EQ(found->damaged.at(0).path, path(4));
  EXPECT_TRUE(fs.status(path(4)));
}

/// A run directory with two checkpoints of a large tensor.
MemoryFs& two_large_steps(MemoryFs& fs) {
  fs.make_directory("/run");
  for (const int step : {1, 2}) {
    const std::string bytes(100'000, static_cast<char>('0' + step));
    save(Value{{"step", step}, {"model", Tensor::from_bytes(DType::uint8, {100'000}, as_bytes(bytes))}}, path(step),
         {.fs = &fs});
  }
  return fs;
}

std::string model_of(const Recovered& found) {
  return found.checkpoint["model"].as_tensor().contiguous_bytes();
}

TEST(Recover, WhoReadsACheckpointAndFindsItDamagedGetsTheNextOlderOne) {
  MemoryFs fs;
  two_large_steps(fs);
  fs.open_write(path(2))->write_at(50'000, as_bytes("damage"));
  std::vector<std::int64_t> used;
  std::string model;
  const auto use = [&](const Recovered& found) {
    used.push_back(found.step);
    model = model_of(found);
  };
  const auto found = recover(CheckpointStore(fs, "/run"), Role::writer, use);
  EXPECT_EQ(found->step, 1);
  EXPECT_EQ(used, (std::vector<std::int64_t>{2, 1}));
  EXPECT_EQ(model, std::string(100'000, '1'));
  EXPECT_EQ(found->damaged.at(0).path, path(2) + ".broken");
}

TEST(Recover, VerifyFirstNeverHandsOutADamagedCheckpoint) {
  MemoryFs fs;
  two_large_steps(fs);
  fs.open_write(path(2))->write_at(50'000, as_bytes("damage"));
  const auto use = [](const Recovered& found) { EXPECT_EQ(found.step, 1); };
  EXPECT_EQ(recover(CheckpointStore(fs, "/run"), Role::writer, use, true)->step, 1);
}

TEST(Recover, WhatTheUserOfAGoodFileThrowsSetsNothingAside) {
  for (const Code code : {Code::corrupt, Code::unsupported, Code::mismatch, Code::refused}) {
    MemoryFs fs;
    two_large_steps(fs);
    const auto use = [&](const Recovered&) { throw Error(code, "it does not fit"); };
    EXPECT_ERROR(recover(CheckpointStore(fs, "/run"), Role::writer, use), code, "it does not fit");
    EXPECT_TRUE(fs.status(path(2)));
  }
}

/// Every name in the run directory with its bytes.
std::map<std::string, std::string> contents(Fs& fs) {
  std::map<std::string, std::string> files;
  for (const std::string& name : fs.list("/run")) files[name] = read_file(fs, "/run/" + name);
  return files;
}

/// The checkpoint of step 4, changed and written anew with checksums that are right.
void rewrite(Fs& fs, const std::function<void(Value&)>& change) {
  Value checkpoint = load(path(4), {.fs = &fs});
  change(checkpoint);
  save(checkpoint, path(4), {.fs = &fs});
}

/// The record `name` of the zip of step 4 holds other bytes, as many, and the checksum of those. Our writer puts it
/// into the directory and behind the bytes.
void replace_record(Fs& fs, const std::string& name, const std::string& before, const std::string& after) {
  std::string bytes = read_file(fs, path(4));
  const std::size_t data = bytes.find(before, bytes.find(name));
  bytes.replace(data, after.size(), after);
  const std::uint32_t crc = crc32(as_bytes(after));
  std::memcpy(bytes.data() + data + after.size() + 4, &crc, sizeof(crc));
  std::memcpy(bytes.data() + bytes.rfind(name) - 46 + 16, &crc, sizeof(crc));
  fs.remove(path(4));
  create_file(fs, path(4), bytes);
}

void expect_left_alone(Fs& fs, Code code, std::string_view needed) {
  const auto before = contents(fs);
  for (const Role role : {Role::writer, Role::reader}) {
    for (const bool verify_first : {false, true}) {
      const auto use = [](const Recovered& found) { FAIL() << "step " << found.step << " was used"; };
      EXPECT_ERROR(recover(CheckpointStore(fs, "/run"), role, use, verify_first), code, needed);
      EXPECT_ERROR(recover(CheckpointStore(fs, "/run"), role, use, verify_first), code, "step-00000004.pt");
      EXPECT_ERROR(recover(CheckpointStore(fs, "/run"), role, use, verify_first), code, "no older checkpoint is used");
    }
    EXPECT_ERROR(recover(CheckpointStore(fs, "/run"), role), code, needed);
  }
  EXPECT_TRUE(contents(fs) == before);
}

TEST(Recover, AContainerOfALaterVersionEndsTheResumeAndTouchesNothing) {
  MemoryFs fs;
  replace_record(four_steps(fs), "archive/version", "3\n", "99");
  expect_left_alone(fs, Code::unsupported, "it takes a torchkeep that knows version 99");
}

TEST(Recover, ALayoutOfALaterVersionEndsTheResumeAndTouchesNothing) {
  MemoryFs fs;
  rewrite(four_steps(fs), [](Value& checkpoint) {
    checkpoint.set("layout_version", 77);
    Value provenance = checkpoint.at("provenance");
    provenance.set("torchkeep", "5.0.2");
    checkpoint.set("provenance", provenance);
  });
  expect_left_alone(fs, Code::unsupported, "resume with torchkeep 5.0.2 or later");
}

TEST(Recover, APickleOfALaterProtocolEndsTheResumeAndTouchesNothing) {
  MemoryFs fs;
  four_steps(fs);
  const std::string bytes = read_file(fs, path(4));
  const std::size_t pickle = bytes.find("\x80\x02", bytes.find("archive/data.pkl"));
  std::string later = bytes.substr(pickle, bytes.find("PK\x07\x08", pickle) - pickle);
  const std::string before = later;
  later[1] = 9;
  replace_record(fs, "archive/data.pkl", before, later);
  expect_left_alone(fs, Code::unsupported, "protocol 9");
}

TEST(Recover, ARefusedFileEndsTheResumeAndTouchesNothing) {
  MemoryFs fs;
  four_steps(fs);
  fs.remove(path(4));
  create_file(fs, path(4), "cposix\nsystem\n(S'true'\ntR.");
  expect_left_alone(fs, Code::refused, "posix.system");
}

TEST(Recover, AFileOfAnotherKindEndsTheResumeAndTouchesNothing) {
  MemoryFs fs;
  four_steps(fs);
  fs.remove(path(4));
  create_file(fs, path(4), "version https://git-lfs.github.com/spec/v1\n");
  expect_left_alone(fs, Code::unsupported, "git lfs pull");
}

TEST(Recover, AnOlderCheckpointOfALaterVersionDoesNotMatter) {
  MemoryFs fs;
  four_steps(fs);
  Value checkpoint = load(path(2), {.fs = &fs});
  checkpoint.set("layout_version", 77);
  save(checkpoint, path(2), {.fs = &fs});
  EXPECT_EQ(recover(CheckpointStore(fs, "/run"), Role::writer)->step, 4);
}

TEST(Recover, AChangedBitIsDamageWhateverErrorItLeadsTo) {
  MemoryFs fs;
  four_steps(fs);
  const std::string good = read_file(fs, path(4));
  // The first local header, and all of the directory and the end records; the records in between have checksums.
  std::vector<std::size_t> places;
  for (std::size_t at = 0; at < 64; ++at) places.push_back(at);
  for (std::size_t at = good.find("PK\x01\x02"); at < good.size(); ++at) places.push_back(at);
  for (const std::size_t at : places) {
    for (int bit = 0; bit < 8; ++bit) {
      std::string bytes = good;
      bytes[at] = static_cast<char>(bytes[at] ^ (1 << bit));
      fs.remove(path(4));
      create_file(fs, path(4), bytes);
      const auto found = recover(CheckpointStore(fs, "/run"), Role::reader);
      ASSERT_TRUE(found) << at;
      // A bit that nothing reads (a date) leaves the checkpoint as good as it was.
      const std::int64_t step = found->damaged.empty() ? 4 : 3;
      EXPECT_EQ(found->step, step) << "byte " << at << " bit " << bit;
      EXPECT_EQ(found->checkpoint["model"], FakeTraining::after(step)["model"]) << "byte " << at << " bit " << bit;
    }
  }
}

TEST(Recover, WhenAllAreDamagedListsThemAndLeavesThem) {
  MemoryFs fs;
  four_steps(fs);
  for (int step = 1; step <= 4; ++step) truncate(fs, path(step), static_cast<std::size_t>(step) * 10);
  EXPECT_ERROR(recover(CheckpointStore(fs, "/run"), Role::writer), Code::corrupt, "step-00000001.pt");
  EXPECT_ERROR(recover(CheckpointStore(fs, "/run"), Role::writer), Code::corrupt, "step-00000004.pt");
  for (int step = 1; step <= 4; ++step) EXPECT_TRUE(fs.status(path(step)));
}

TEST(Recover, WhatWasSetAsideIsNoFreshStart) {
  MemoryFs fs;
  fs.make_directory("/run");
  create_file(fs, path(4) + ".broken", "");
  EXPECT_ERROR(recover(CheckpointStore(fs, "/run"), Role::writer), Code::corrupt,
               "step-00000004.pt.broken: set aside earlier");
}

TEST(Recover, AFileUnderTheWrongNameIsDamaged) {
  MemoryFs fs;
  four_steps(fs);
  fs.rename(path(2), path(9));
  save(Value{{"epoch", 3}}, path(8), {.fs = &fs});
  save(List{1, 2}, path(7), {.fs = &fs});
  const auto found = recover(CheckpointStore(fs, "/run"), Role::writer);
  EXPECT_EQ(found->step, 4);
  ASSERT_EQ(found->damaged.size(), 3U);
  EXPECT_NE(found->damaged[0].reason.find("holds step 2, not the one of its name"), std::string::npos);
  EXPECT_NE(found->damaged[1].reason.find("expected the checkpoint of a run"), std::string::npos);
  EXPECT_NE(found->damaged[2].reason.find("expected the checkpoint of a run"), std::string::npos);
}

/// Fails to open one file.
class Unreadable final : public FaultFs {
 public:
  Unreadable(Fs& inner, std::string path, int error) : FaultFs(inner, {}), path_(std::move(path)), error_(error) {}
  std::unique_ptr<ReadAt> open_read(const std::string& path) override {
    Where where;
    where.file = path;
    if (path == path_) throw Error::from_errno(error_, "open the file for reading", where);
    return FaultFs::open_read(path);
  }
  void rename(const std::string& from, const std::string& to) override {
    if (read_only) throw Error::from_errno(EROFS, "rename");
    FaultFs::rename(from, to);
  }
  bool read_only = false;

 private:
  std::string path_;
  int error_;
};

TEST(Recover, AnUnreadableDiskSectorIsDamageAndAShortageIsNot) {
  MemoryFs disk;
  four_steps(disk);
  Unreadable shortage(disk, path(4), EMFILE);
  EXPECT_ERROR(recover(CheckpointStore(shortage, "/run"), Role::writer), Code::io, "step-00000004.pt");
  EXPECT_TRUE(disk.status(path(4)));
  Unreadable sector(disk, path(4), EIO);
  EXPECT_EQ(recover(CheckpointStore(sector, "/run"), Role::writer)->step, 3);
  EXPECT_TRUE(disk.status(path(4) + ".broken"));
}

TEST(Recover, ADamagedFileThatCannotBeRenamedIsReportedAndPassedOver) {
  MemoryFs disk;
  flip_a_bit(four_steps(disk), 4);
  Unreadable fs(disk, {}, 0);
  fs.read_only = true;
  const auto found = recover(CheckpointStore(fs, "/run"), Role::writer);
  EXPECT_EQ(found->step, 3);
  EXPECT_EQ(found->damaged.at(0).path, path(4));
  EXPECT_NE(found->damaged.at(0).left_there.find("Read-only"), std::string::npos);
}

/// Loses a file the first times somebody opens it, as when the writer prunes while a reader looks.
class Pruning final : public FaultFs {
 public:
  Pruning(Fs& inner, int times) : FaultFs(inner, {}), times_(times) {}
  std::unique_ptr<ReadAt> open_read(const std::string& path) override {
    if (times_-- > 0) throw Error::from_errno(ENOENT, "open the file for reading");
    return FaultFs::open_read(path);
  }

 private:
  int times_;
};

TEST(Recover, AReaderLooksAgainWhenTheWriterRemovedWhatItSaw) {
  MemoryFs disk;
  four_steps(disk);
  Pruning fs(disk, 3);
  EXPECT_EQ(recover(CheckpointStore(fs, "/run"), Role::reader)->step, 4);
  Pruning forever(disk, 1000);
  EXPECT_ERROR(recover(CheckpointStore(forever, "/run"), Role::reader), Code::not_found, "No such file");
}

}  // namespace
}  // namespace torchkeep
