// SPDX-License-Identifier: BSD-3-Clause
// Every way to write gives the same bytes, every way to read the same value and the same errors.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <torchkeep/checkpoint/checkpoint.h>

#include "support/conformance.h"
#include "support/expect_error.h"
#include "support/memory_fs.h"
#include "support/ring_fs.h"
#include "support/temp_dir.h"
#include "support/whole_file.h"

namespace torchkeep {
namespace {

using testing::MemoryFs;
using testing::read_file;
using testing::RingFs;
using testing::TempDir;

std::string pattern(std::size_t size) {
  std::string bytes(size, '\0');
  for (std::size_t i = 0; i < size; ++i) bytes[i] = static_cast<char>(i * 7 + i / 251);
  return bytes;
}

Tensor bytes_tensor(std::size_t size) {
  return Tensor::from_bytes(DType::uint8, {static_cast<std::int64_t>(size)}, as_bytes(pattern(size)));
}

/// Two records of more than one chunk, many small ones, and one without bytes.
Value large_state() {
  Value state{{"a", bytes_tensor(20'000'003)}, {"none", Tensor::of<float>({0}, {})}};
  for (int i = 0; i < 200; ++i) state.set("small " + std::to_string(i), Tensor::of<std::int64_t>({3}, {i, i, i}));
  state.set("b", bytes_tensor(9'000'000));
  return state;
}

const Value& large() {
  static const Value state = large_state();
  return state;
}

TEST(WritePaths, GiveTheSameBytes) {
  MemoryFs memory;
  save(large(), "a.pt", {.fs = &memory});
  const std::string expected = read_file(memory, "a.pt");
  RingFs ring(memory, {.block_size = 1 << 20, .alignment = 4096});
  save(large(), "b.pt", {.fs = &ring});
  EXPECT_GT(ring.ring_writes(), 20U);
  EXPECT_TRUE(read_file(memory, "b.pt") == expected);
  const TempDir folder;
  for (const auto path : {WritePath::direct, WritePath::uncached, WritePath::page_cache}) {
    for (const bool durable : {true, false}) {
      save(large(), folder / "c.pt", {.durable = durable, .read_back = durable, .write_path = path});
      EXPECT_TRUE(read_file(posix_fs(), folder / "c.pt") == expected);
    }
  }
}

TEST(WritePaths, GiveTheSameBytesForEveryState) {
  for (const auto& [name, value] : testing::conformance_states()) {
    MemoryFs memory;
    save(value, "a.pt", {.fs = &memory});
    RingFs ring(memory);
    save(value, "b.pt", {.fs = &ring});
    EXPECT_TRUE(read_file(memory, "a.pt") == read_file(memory, "b.pt")) << name;
  }
}

TEST(CompactViews, AreSavedOnRequest) {
  MemoryFs fs;
  Tensor row = bytes_tensor(1'000'000);
  row.sizes = {100};
  row.storage_offset = 500'000;
  save(row, "whole.pt", {.fs = &fs});
  save(row, "compact.pt", {.fs = &fs, .compact_views = true});
  EXPECT_GT(fs.status("whole.pt")->size, 1'000'000U);
  EXPECT_LT(fs.status("compact.pt")->size, 3'000U);
  EXPECT_EQ(load("compact.pt", {.fs = &fs}).as_tensor().contiguous_bytes(), row.contiguous_bytes());
}

/// Takes the file out of the page cache. False where the system does not let or tell.
bool make_cold(const std::string& path) {
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  EXPECT_EQ(::fsync(fd), 0);
  EXPECT_EQ(::posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED), 0);
  ::close(fd);
  const auto file = posix_fs().open_read(path);
  return file->is_cold(0, file->size());
}
constexpr const char* kNotTold = "this system does not tell what is cached, or has no direct reads here";

TEST(ColdFiles, GiveTheSameValueAndStayOutOfThePageCache) {
  const TempDir folder;
  const std::string path = folder / "a.pt";
  save(large(), path, {.durable = false});
  const auto file = posix_fs().open_read(path);
  EXPECT_FALSE(file->is_cold(0, file->size())) << "it was just written";
  for (const unsigned threads : {1U, 2U, 0U}) {
    if (!make_cold(path)) GTEST_SKIP() << kNotTold;
    EXPECT_TRUE(load(path, {.threads = threads}) == large());
    EXPECT_TRUE(file->is_cold(0, file->size()));
  }
}

TEST(ColdFiles, AreVerified) {
  const TempDir folder;
  save(large(), folder / "a.pt");
  if (!make_cold(folder / "a.pt")) GTEST_SKIP() << kNotTold;
  EXPECT_NO_THROW(verify(folder / "a.pt"));
  posix_fs().open_write(folder / "a.pt")->write_at(12'000'000, as_bytes("damage"));
  make_cold(folder / "a.pt");
  EXPECT_ERROR(load(folder / "a.pt"), Code::corrupt, "a.pt: data/0: CRC-32 is");
  EXPECT_ERROR(verify(folder / "a.pt"), Code::corrupt, "data/0: CRC-32 is");
}

TEST(ColdFiles, GiveEveryRangeOfTheirBytes) {
  const TempDir folder;
  const std::string bytes = pattern(3'000'001);
  posix_fs().open_write(folder / "a")->write_at(0, as_bytes(bytes));
  const auto file = posix_fs().open_read(folder / "a");
  for (const std::size_t begin : {0U, 1U, 4095U, 4096U, 700'001U, 2'000'000U}) {
    for (const std::size_t size : {std::size_t{512} << 10, std::size_t{1'000'001}, bytes.size() - begin}) {
      if (!make_cold(folder / "a")) GTEST_SKIP() << kNotTold;
      std::string found(size, '\0');
      file->read_at(begin, std::as_writable_bytes(std::span(found)));
      EXPECT_TRUE(found == bytes.substr(begin, size)) << size << " bytes at " << begin;
      EXPECT_TRUE(as_text(file->look_at(begin, size)) == found) << size << " bytes at " << begin;
    }
  }
}

class ReadPaths : public ::testing::TestWithParam<bool> {
 protected:
  /// A file with large_state(), damaged on request in the second chunk of "a".
  std::string file(bool damaged = false) {
    const std::string path = folder_ / "a.pt";
    save(large(), path, {.durable = false});
    if (damaged) posix_fs().open_write(path)->write_at(12'000'000, as_bytes("damage"));
    return path;
  }

 private:
  TempDir folder_;
};

INSTANTIATE_TEST_SUITE_P(Map, ReadPaths, ::testing::Bool(),
                         [](const auto& info) { return info.param ? "Mapped" : "InMemory"; });

TEST_P(ReadPaths, GiveTheSameValueWhateverTheThreads) {
  const std::string path = file();
  for (const unsigned threads : {1U, 2U, 7U, 0U}) {
    EXPECT_TRUE(load(path, {.map = GetParam(), .threads = threads}) == large()) << threads << " threads";
  }
}

TEST_P(ReadPaths, GiveTheSameValueForEveryState) {
  const TempDir folder;
  for (const auto& [name, value] : testing::conformance_states()) {
    save(value, folder / "a.pt", {.durable = false});
    EXPECT_TRUE(load(folder / "a.pt", {.map = GetParam()}) == value) << name;
    make_cold(folder / "a.pt");
    EXPECT_TRUE(load(folder / "a.pt", {.map = GetParam()}) == value) << name << ", from the disk";
  }
}

TEST_P(ReadPaths, FindADamagedRecordBeforeItsBytesAreHandedOut) {
  const std::string path = file(true);
  const auto use = [&] {
    const Value value = load(path, {.map = GetParam()});
    EXPECT_EQ(value["a"].as_tensor().storage->data(), nullptr);
    EXPECT_EQ(value["b"].as_tensor().contiguous_bytes(), pattern(9'000'000)) << "another record is fine";
    value["a"].as_tensor().contiguous_bytes();
  };
  EXPECT_ERROR(use(), Code::corrupt, "a.pt: data/0: CRC-32 is");
}

TEST_P(ReadPaths, GiveBytesOfADamagedRecordWhenNotAskedToVerify) {
  const Value value = load(file(true), {.verify = false, .map = GetParam()});
  EXPECT_NE(value["a"].as_tensor().contiguous_bytes(), pattern(20'000'003));
}

TEST(MappedLoad, DoesNotCopyAndOutlivesTheFilesReplacement) {
  const TempDir folder;
  save(large(), folder / "a.pt");
  const Value value = load(folder / "a.pt", {.map = true});
  ASSERT_NE(value["b"].as_tensor().storage->data(), nullptr);
  save(Value{{"other", 1}}, folder / "a.pt");
  EXPECT_TRUE(value == large());
}

TEST(MappedLoad, WhatIsWrittenToItDoesNotReachTheFile) {
  const TempDir folder;
  save(large(), folder / "a.pt");
  const std::string before = read_file(posix_fs(), folder / "a.pt");
  const Value value = load(folder / "a.pt", {.map = true});
  auto* const bytes = const_cast<std::byte*>(value["b"].as_tensor().storage->data());
  bytes[5] = ~bytes[5];
  EXPECT_TRUE(read_file(posix_fs(), folder / "a.pt") == before);
}

TEST(MappedLoad, ReadsFromFileSystemsThatCannotMap) {
  MemoryFs fs;
  save(large(), "a.pt", {.fs = &fs});
  EXPECT_TRUE(load("a.pt", {.fs = &fs, .map = true}) == large());
}

TEST(Verify, FindsADamagedChunkWhateverTheThreads) {
  const TempDir folder;
  save(large(), folder / "a.pt");
  for (const unsigned threads : {1U, 2U, 5U}) EXPECT_NO_THROW(verify(folder / "a.pt", {.threads = threads}));
  posix_fs().open_write(folder / "a.pt")->write_at(19'000'000, as_bytes("damage"));
  for (const unsigned threads : {1U, 2U, 5U}) {
    EXPECT_ERROR(verify(folder / "a.pt", {.threads = threads}), Code::corrupt, "data/0: CRC-32 is");
  }
}

}  // namespace
}  // namespace torchkeep
