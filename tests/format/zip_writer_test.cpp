// SPDX-License-Identifier: BSD-3-Clause
// The zip writer lays records out as PyTorch's writer does (tests/python compares with PyTorch itself, byte for byte).
#include <gtest/gtest.h>

#include "support/expect_error.h"
#include "support/pt_files.h"
#include "zip/records.h"
#include "zip/zip.h"

namespace torchkeep::zip {
namespace {

using testing::assemble;
using testing::PlanReadAt;
using testing::ZeroStorage;

StoragePtr storage(std::string_view bytes) {
  return std::make_shared<OwnedStorage>(as_bytes(bytes));
}

Plan three_records() {
  Writer writer("archive");
  writer.add("data.pkl", "pickle");
  writer.add("data/0", storage("0123456789"), 10);
  writer.add("data/1", storage(""), 0);
  return std::move(writer).finish();
}

TEST(ZipWriter, ExtentsFollowEachOtherWithoutAGap) {
  const Plan plan = three_records();
  std::uint64_t end = 0;
  for (const Extent& extent : plan.extents) {
    EXPECT_EQ(extent.file_offset, end);
    end += extent.size;
  }
  EXPECT_EQ(end, plan.file_size);
  EXPECT_EQ(assemble(plan).size(), plan.file_size);
}

TEST(ZipWriter, NoExtentBeforeAPayloadHoldsItsCrc) {
  const Plan plan = three_records();
  std::uint64_t payload_offset = 0;
  for (const Extent& extent : plan.extents) {
    if (extent.is_payload) payload_offset = extent.file_offset;
  }
  ASSERT_EQ(plan.patches.size(), 2u);  // descriptor and directory; none for the empty record
  for (const CrcPatch& patch : plan.patches) {
    for (const Extent& extent : plan.extents) {
      const bool holds = !extent.is_payload && patch.literal_offset >= extent.index &&
                         patch.literal_offset < extent.index + extent.size;
      EXPECT_TRUE(!holds || extent.file_offset > payload_offset);
    }
  }
}

class Alignment : public ::testing::TestWithParam<std::uint64_t> {};

TEST_P(Alignment, PayloadsBeginAtMultiples) {
  Writer writer("archive", GetParam());
  writer.add("data.pkl", "pickle");
  for (int i = 0; i < 20; ++i)
    writer.add("data/" + std::to_string(i), storage(std::string(static_cast<std::size_t>(i), 'x')),
               static_cast<std::uint64_t>(i));
  const Reader reader(testing::as_file(assemble(std::move(writer).finish())), Limits{});
  ASSERT_EQ(reader.records().size(), 21u);
  for (const Record& record : reader.records()) EXPECT_EQ(reader.locate(record) % GetParam(), 0u) << record.name;
}

INSTANTIATE_TEST_SUITE_P(Sizes, Alignment, ::testing::Values(1, 16, 64, 4096, 65536));

TEST(ZipWriter, RefusesAlignmentsThatDoNotFitTheExtraField) {
  EXPECT_ERROR(Writer("archive", 0), Code::invalid_argument, "alignment 0");
  EXPECT_ERROR(Writer("archive", 65537), Code::invalid_argument, "alignment 65537");
}

TEST(ZipWriter, EmptyRecordsHaveNoDescriptor) {
  const std::string file = assemble(three_records());
  const Reader reader(testing::as_file(file), Limits{});
  EXPECT_EQ(reader.find("data/1")->flags, kFlagUtf8);
  EXPECT_EQ(reader.find("data/0")->flags, kFlagUtf8 | kFlagDescriptor);
}

TEST(ZipWriter, NamesLongerThanAZipAllowsAreRefused) {
  Writer writer("archive");
  EXPECT_ERROR(writer.add(std::string(65530, 'n'), "x"), Code::invalid_argument, "65538 bytes");
}

// 5 GiB, then a small record beyond 4 GiB, then 6 GiB beyond 4 GiB: the three forms of the zip64 block.
Plan huge() {
  Writer writer("archive");
  writer.add("data/0", std::make_shared<ZeroStorage>(std::uint64_t{5} << 30), std::uint64_t{5} << 30);
  writer.add("data/1", storage("after"), 5);
  writer.add("data/2", std::make_shared<ZeroStorage>(std::uint64_t{6} << 30), std::uint64_t{6} << 30);
  return std::move(writer).finish();
}

TEST(ZipWriter, LargeFilesUseZip64) {
  const Reader reader(std::make_shared<PlanReadAt>(huge()), Limits{});
  ASSERT_EQ(reader.records().size(), 3u);
  EXPECT_EQ(reader.records()[0].size, std::uint64_t{5} << 30);
  EXPECT_EQ(reader.records()[1].size, 5u);
  EXPECT_GT(reader.records()[1].header_offset, std::uint64_t{5} << 30);
  EXPECT_EQ(reader.records()[2].size, std::uint64_t{6} << 30);
  for (const Record& record : reader.records()) EXPECT_EQ(reader.locate(record) % 64, 0u);
}

TEST(ZipWriter, LocalZip64BlocksAreThoseOfMiniz) {
  const PlanReadAt file(huge());
  const auto extra = [&file](std::uint64_t header_offset) {
    std::string header(30 + sizeof("archive/data/0") - 1 + 28, '\0');
    file.read_at(header_offset, std::as_writable_bytes(std::span(header)));
    return header.substr(30 + sizeof("archive/data/0") - 1);
  };
  const Reader reader(std::make_shared<PlanReadAt>(huge()), Limits{});
  std::string expected;
  put(expected, kZip64Tag), put(expected, std::uint16_t{16});
  put(expected, std::uint64_t{5} << 30), put(expected, std::uint64_t{0});  // the compressed size is not known yet
  EXPECT_EQ(extra(0).substr(0, 22), expected + "FB");

  const std::uint64_t second = reader.records()[1].header_offset;
  expected.clear();
  put(expected, kZip64Tag), put(expected, std::uint16_t{8}), put(expected, second);
  EXPECT_EQ(extra(second).substr(0, 14), expected + "FB");

  const std::uint64_t third = reader.records()[2].header_offset;
  expected.clear();
  put(expected, kZip64Tag), put(expected, std::uint16_t{24});
  put(expected, std::uint64_t{6} << 30), put(expected, std::uint64_t{0}), put(expected, third);
  EXPECT_EQ(extra(third), expected);
}

TEST(ZipWriter, DescriptorsAreWideExactlyWhereThereIsAZip64Block) {
  const PlanReadAt file(huge());
  const Reader reader(std::make_shared<PlanReadAt>(huge()), Limits{});
  std::uint64_t sizes[3];
  for (std::size_t i = 0; i < 3; ++i) {
    const Record& record = reader.records()[i];
    sizes[i] = record.limit - reader.locate(record) - record.size;
  }
  EXPECT_EQ(sizes[0], 24u);
  EXPECT_EQ(sizes[1], 24u);
  EXPECT_EQ(sizes[2], 24u);
  const Reader small(testing::as_file(assemble(three_records())), Limits{});
  const Record& record = *small.find("data/0");
  EXPECT_EQ(record.limit - small.locate(record) - record.size, 16u);
}

TEST(ZipWriter, CountsBeyond65535StandInTheZip64EndRecord) {
  Writer writer("archive");
  for (int i = 0; i < 70'000; ++i) writer.add("data/" + std::to_string(i), "x");
  const Reader reader(testing::as_file(assemble(std::move(writer).finish())), Limits{});
  EXPECT_EQ(reader.records().size(), 70'000u);
  EXPECT_NE(reader.find("data/69999"), nullptr);
  EXPECT_EQ(reader.find("data/70000"), nullptr);
}

}  // namespace
}  // namespace torchkeep::zip
