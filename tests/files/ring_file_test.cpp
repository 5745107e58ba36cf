// SPDX-License-Identifier: BSD-3-Clause
// Files written through a ring of blocks hold what was written, in whatever order blocks are done and however they
// fail.
#include <gtest/gtest.h>
#include <string>
#include <thread>
#include <vector>

#include <torchkeep/files/publish.h>

#include "support/expect_error.h"
#include "support/memory_fs.h"
#include "support/ring_fs.h"
#include "support/small_disk.h"
#include "support/temp_dir.h"
#include "support/whole_file.h"

namespace torchkeep {
namespace {

using torchkeep::testing::Fault;
using torchkeep::testing::FaultFs;
using torchkeep::testing::MemoryFs;
using torchkeep::testing::read_file;
using torchkeep::testing::RingFs;
using torchkeep::testing::RingSettings;
using torchkeep::testing::SmallDisk;
using torchkeep::testing::TempDir;

std::string pattern(std::size_t size) {
  std::string bytes(size, '\0');
  for (std::size_t i = 0; i < size; ++i) bytes[i] = static_cast<char>(i * 31 + i / 251 + 1);
  return bytes;
}

/// Writes `text` in order, `piece` bytes at a time.
void write_in_order(File& file, const std::string& text, std::size_t piece) {
  for (std::size_t i = 0; i < text.size(); i += piece) {
    file.write_at(i, as_bytes(std::string_view(text).substr(i, piece)));
  }
}

TEST(RingFile, HoldsWhatWasWrittenWhateverTheSizesAndTheOrderOfBlocks) {
  for (std::size_t size = 0; size <= 70; ++size) {
    for (const std::size_t piece : {1, 3, 8, 100}) {
      for (const bool reserves : {false, true}) {
        MemoryFs memory;
        RingFs fs(memory, {.seed = size * 7 + piece});
        const auto file = fs.create("a", {});
        if (reserves) file->reserve(size);
        write_in_order(*file, pattern(size), piece);
        file->sync();
        file->close();
        EXPECT_EQ(read_file(memory, "a"), pattern(size)) << size << " bytes by " << piece;
      }
    }
  }
}

TEST(RingFile, TakesFullBlocksThroughTheRingAndTheTailByThePlainFile) {
  MemoryFs memory;
  RingFs fs(memory);
  const auto file = fs.create("a", {});
  write_in_order(*file, pattern(8 * 5 + 7), 10);
  file->close();
  EXPECT_EQ(fs.ring_writes(), 6U) << "five whole blocks and the aligned part of the sixth";
  EXPECT_EQ(read_file(memory, "a"), pattern(47));
}

TEST(RingFile, WritesOutOfOrderAreNotLost) {
  MemoryFs memory;
  RingFs fs(memory);
  const auto file = fs.create("a", {});
  const std::string text = pattern(60);
  write_in_order(*file, text.substr(0, 30), 9);
  file->write_at(50, as_bytes(text.substr(50)));
  file->write_at(30, as_bytes(text.substr(30, 20)));
  file->write_at(3, as_bytes(text.substr(3, 4)));
  file->close();
  EXPECT_EQ(read_file(memory, "a"), text);
}

TEST(RingFile, SeveralThreadsMayWrite) {
  MemoryFs memory;
  RingFs fs(memory);
  const auto file = fs.create("a", {});
  const std::string text = pattern(4000);
  std::vector<std::thread> threads;
  for (std::size_t t = 0; t < 4; ++t) {
    threads.emplace_back([&, t] {
      for (std::size_t i = t * 1000; i < (t + 1) * 1000; i += 50) file->write_at(i, as_bytes(text.substr(i, 50)));
    });
  }
  for (std::thread& thread : threads) thread.join();
  file->close();
  EXPECT_EQ(read_file(memory, "a"), text);
}

TEST(RingFile, AWayThatTheSystemRefusesIsLeftWithoutLoss) {
  for (std::size_t refused = 0; refused < 9; ++refused) {
    MemoryFs memory;
    RingFs fs(memory, {.refuse_from = refused});
    const auto file = fs.create("a", {});
    write_in_order(*file, pattern(70), 11);
    file->sync();
    EXPECT_EQ(read_file(memory, "a"), pattern(70)) << "refused from write " << refused << " on";
  }
}

TEST(RingFile, AShortWriteIsFinished) {
  for (std::size_t number = 0; number < 9; ++number) {
    MemoryFs memory;
    RingFs fs(memory, {.short_write = number});
    const auto file = fs.create("a", {});
    write_in_order(*file, pattern(70), 13);
    file->close();
    EXPECT_EQ(read_file(memory, "a"), pattern(70)) << "write " << number;
  }
}

TEST(RingFile, AFailedWriteIsReportedAndNeverForgotten) {
  MemoryFs memory;
  FaultFs faulty(memory, {.call = 3, .error = EIO});  // create, then the second block
  RingFs fs(faulty);
  const auto file = fs.create("a", {});
  EXPECT_ERROR(write_in_order(*file, pattern(200), 10), Code::io, "cannot write 8 bytes: Input/output error");
  EXPECT_ERROR(file->write_at(10, as_bytes("x")), Code::io, "Input/output error");
  EXPECT_ERROR(file->sync(), Code::io, "Input/output error");
  EXPECT_ERROR(file->close(), Code::io, "Input/output error");
}

TEST(RingFile, AFailureOfTheLastBlockStopsThePublishing) {
  MemoryFs memory;
  publish(memory, "a", as_bytes("old"));
  for (std::size_t call = 1; call < 40; ++call) {
    FaultFs faulty(memory, {.call = call, .error = ENOSPC});
    RingFs fs(faulty);
    const auto fill = [](File& file) { write_in_order(file, pattern(60), 7); };
    try {
      publish(fs, "a", fill, {.size = 60});
      EXPECT_EQ(read_file(memory, "a"), pattern(60));
      publish(memory, "a", as_bytes("old"));
    } catch (const Error& error) {
      EXPECT_EQ(error.system_error(), ENOSPC) << error.what();
      const std::string found = read_file(memory, "a");
      EXPECT_TRUE(found == "old" || found == pattern(60)) << "call " << call;
      publish(memory, "a", as_bytes("old"));
    }
  }
  EXPECT_EQ(memory.list("/"), std::vector<std::string>{"a"});
}

TEST(RingFile, AnAbandonedFileWaitsForWhatIsUnderWay) {
  MemoryFs memory;
  RingFs fs(memory);
  {
    const auto file = fs.create("a", {});
    write_in_order(*file, pattern(20), 20);  // two blocks under way, four bytes in the third
  }
  EXPECT_EQ(fs.ring_writes(), 2U);
}

// ---- the real thing, where the system has it; else the fallbacks ----

class WritePaths : public ::testing::TestWithParam<WritePath> {
 protected:
  /// Writes 9 MiB and a bit: more than the ring holds.
  static std::string large() { return pattern((9 << 20) + 12'345); }
};

INSTANTIATE_TEST_SUITE_P(WritePath, WritePaths,
                         ::testing::Values(WritePath::direct, WritePath::uncached, WritePath::page_cache));

TEST_P(WritePaths, GiveTheSameFile) {
  const TempDir folder;
  const std::string text = large();
  for (const std::uint64_t reserved : {std::uint64_t{0}, std::uint64_t{text.size()}, std::uint64_t{text.size() * 2}}) {
    for (const std::size_t piece : {std::size_t{1'000'003}, std::size_t{1} << 20}) {
      const auto file = posix_fs().create(folder / "a", {.path = GetParam()});
      file->reserve(reserved);
      write_in_order(*file, text, piece);
      file->sync();
      file->close();
      EXPECT_TRUE(read_file(posix_fs(), folder / "a") == text) << reserved << " reserved, by " << piece;
      posix_fs().remove(folder / "a");
    }
  }
}

TEST_P(WritePaths, WorkOneAfterAnotherAndSideBySide) {
  const TempDir folder;
  const std::string text = large();
  for (int round = 0; round < 2; ++round) {
    std::vector<std::thread> threads;
    for (int i = 0; i < 3; ++i) {
      threads.emplace_back([&, i] {
        const auto file = posix_fs().create(folder / std::to_string(round * 3 + i), {.path = GetParam()});
        write_in_order(*file, text, 300'000);
        file->close();
      });
    }
    for (std::thread& thread : threads) thread.join();
  }
  for (int i = 0; i < 6; ++i) EXPECT_TRUE(read_file(posix_fs(), folder / std::to_string(i)) == text);
}

TEST_P(WritePaths, ReportAFullDisk) {
  const SmallDisk disk(4 << 20);
  if (!disk.mounted()) GTEST_SKIP() << disk.refusal();
  const auto fill = [](File& file) { write_in_order(file, large(), 1 << 20); };
  EXPECT_ERROR(publish(posix_fs(), disk / "a", fill, {.write_path = GetParam()}), Code::io, "No space left on device");
  EXPECT_TRUE(posix_fs().list(disk.path()).empty());
}

TEST_P(WritePaths, ReplaceAFileAndKeepItsMode) {
  const TempDir folder;
  posix_fs().create(folder / "a", {.mode = 0600, .exact_mode = true})->close();
  const auto fill = [](File& file) { write_in_order(file, large(), 1 << 20); };
  publish(posix_fs(), folder / "a", fill, {.size = large().size(), .write_path = GetParam()});
  EXPECT_EQ(posix_fs().status(folder / "a")->mode, 0600U);
  EXPECT_EQ(posix_fs().status(folder / "a")->size, large().size());
}

}  // namespace
}  // namespace torchkeep
