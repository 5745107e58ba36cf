// SPDX-License-Identifier: BSD-3-Clause
// Storages that are records of a file: when they read, when they verify, and that loading lets go of the file.
#include <gtest/gtest.h>

#include "support/expect_error.h"
#include "support/pt_files.h"

namespace torchkeep {
namespace {

using testing::as_file;
using testing::CountingReadAt;
using testing::pt_bytes;

Value two_tensors() {
  return List{Tensor::of<std::int32_t>({4}, {1, 2, 3, 4}), Tensor::of<std::int32_t>({2}, {0x7eadbeef, 6})};
}

std::string with_second_tensor_damaged() {
  std::string file = pt_bytes(two_tensors());
  file[file.find("\xef\xbe\xad\x7e")] = 'x';
  return file;
}

std::string read(const Storage& storage, std::uint64_t offset, std::uint64_t size) {
  std::string bytes(size, '\0');
  storage.read(offset, std::as_writable_bytes(std::span(bytes)));
  return bytes;
}

TEST(RecordStorage, ReadsPartsAndWhole) {
  const OpenedFile file = open_pt(as_file(pt_bytes(two_tensors())));
  ASSERT_EQ(file.records.size(), 2u);
  const Storage& storage = *file.records[0];
  EXPECT_EQ(storage.nbytes(), 16u);
  EXPECT_EQ(storage.data(), nullptr);
  EXPECT_EQ(read(storage, 4, 4), std::string("\2\0\0\0", 4));
  EXPECT_EQ(read(storage, 0, 16), std::string("\1\0\0\0\2\0\0\0\3\0\0\0\4\0\0\0", 16));
  EXPECT_EQ(read(storage, 16, 0), "");
  EXPECT_ERROR(read(storage, 13, 4), Code::invalid_argument, "outside a storage of 16 bytes");
}

TEST(RecordStorage, ADamagedRecordIsFoundByReadingAllOfItOrAPart) {
  for (const std::uint64_t size : {8, 1}) {
    const OpenedFile file = open_pt(as_file(with_second_tensor_damaged()));
    EXPECT_NO_THROW(read(*file.records[0], 0, 16));
    EXPECT_ERROR(read(*file.records[1], 0, size), Code::corrupt, "test.pt: data/1: CRC-32 is");
    EXPECT_ERROR(read(*file.records[1], 0, size), Code::corrupt, "data/1");  // again
  }
}

TEST(RecordStorage, ReadsDamagedBytesWhenAskedNotToVerify) {
  const OpenedFile file = open_pt(as_file(with_second_tensor_damaged()), {.verify = false});
  EXPECT_EQ(read(*file.records[1], 0, 1), "x");
  EXPECT_EQ(read(*file.records[1], 0, 8).front(), 'x');
}

TEST(RecordStorage, PartsAreVerifiedOnce) {
  const auto counting = std::make_shared<CountingReadAt>(as_file(pt_bytes(two_tensors())));
  const OpenedFile file = open_pt(counting);
  read(*file.records[0], 0, 1);
  const std::uint64_t after_first = counting->bytes();
  read(*file.records[0], 1, 1);
  EXPECT_EQ(counting->bytes(), after_first + 1);
}

TEST(RecordStorage, LoadingPutsTheBytesIntoAlignedMemory) {
  const OpenedFile file = open_pt(as_file(pt_bytes(two_tensors())));
  load_storages(file.records);
  for (const auto& storage : file.records) {
    ASSERT_NE(storage->data(), nullptr);
    EXPECT_EQ(reinterpret_cast<std::uintptr_t>(storage->data()) % 64, 0u);
  }
  EXPECT_EQ(std::memcmp(file.records[0]->data(), "\1\0\0\0\2\0\0\0", 8), 0);
  EXPECT_EQ(read(*file.records[0], 4, 4), std::string("\2\0\0\0", 4));
}

TEST(RecordStorage, LoadingLetsGoOfTheFile) {
  auto file = as_file(pt_bytes(two_tensors()));
  const std::weak_ptr<const ReadAt> watch = file;
  const OpenedFile opened = open_pt(std::move(file));
  EXPECT_FALSE(watch.expired());
  load_storages(opened.records);
  EXPECT_TRUE(watch.expired());
}

TEST(RecordStorage, LoadingVerifies) {
  const OpenedFile file = open_pt(as_file(with_second_tensor_damaged()));
  EXPECT_ERROR(load_storages(file.records), Code::corrupt, "test.pt: data/1: CRC-32 is");
}

TEST(RecordStorage, LoadingReadsSmallNeighboursTogetherAndLargeRecordsAlone) {
  std::vector<Value> tensors;
  for (int i = 0; i < 3000; ++i) tensors.push_back(Tensor::of<std::int32_t>({1}, {i}));
  tensors.push_back(Tensor::from_bytes(DType::uint8, {3 << 20}, as_bytes(std::string(3 << 20, 'L'))));
  for (int i = 0; i < 3; ++i) tensors.push_back(Tensor::of<std::int32_t>({1}, {-i}));
  const Value value = Value::sequence(Kind::list, std::move(tensors));
  const auto counting = std::make_shared<CountingReadAt>(as_file(pt_bytes(value)));
  const OpenedFile file = open_pt(counting);
  const std::uint64_t before = counting->reads();
  load_storages(file.records);
  EXPECT_LE(counting->reads() - before, 20u);
  EXPECT_TRUE(file.value == value);
}

}  // namespace
}  // namespace torchkeep
