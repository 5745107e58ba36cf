// SPDX-License-Identifier: BSD-3-Clause
// ByteReader and MemoryReadAt never hand out a byte that is not there.
#include <cstdint>
#include <gtest/gtest.h>
#include <limits>
#include <string>

#include <torchkeep/base/bytes.h>

namespace torchkeep {
namespace {

using namespace std::string_literals;

// The error `action` throws; a test that expects one fails when there is none.
template <class Action>
Error error_of(Action action) {
  try {
    action();
  } catch (const Error& error) {
    return error;
  }
  ADD_FAILURE() << "nothing was thrown";
  return Error(Code::io, "nothing was thrown");
}

TEST(ByteReader, ReadsLittleEndianFieldsOneAfterAnother) {
  const std::string bytes = "\x01\x02\x03\x04\x05\x06\x07\x08\xFF\xFE\xFF\xFF\xFF\x00\x00\x80\x3F"s;
  ByteReader reader(as_bytes(bytes));
  EXPECT_EQ(reader.read<std::uint16_t>(), 0x0201U);
  EXPECT_EQ(reader.read<std::uint32_t>(), 0x0605'0403U);
  EXPECT_EQ(reader.read<std::uint16_t>(), 0x0807U);
  EXPECT_EQ(reader.read<std::int8_t>(), -1);
  EXPECT_EQ(reader.read<std::int32_t>(), -2);
  EXPECT_EQ(reader.read<float>(), 1.0F);
  EXPECT_EQ(reader.remaining(), 0U);
}

TEST(ByteReader, RefusesEveryFieldThatRunsPastTheEnd) {
  const std::string bytes(8, 'x');
  for (std::size_t size = 0; size < 8; ++size) {
    ByteReader reader(as_bytes(bytes).first(size));
    const Error error = error_of([&] { reader.read<std::uint64_t>(); });
    EXPECT_EQ(error.code(), Code::corrupt);
    EXPECT_EQ(reader.position(), 0U) << "a refused field must not be consumed";
  }
}

TEST(ByteReader, TakesExactlyTheRestAndNotOneByteMore) {
  const std::string bytes = "abcdef";
  ByteReader reader(as_bytes(bytes));
  EXPECT_EQ(as_text(reader.take(2)), "ab");
  EXPECT_EQ(error_of([&] { reader.take(5); }).code(), Code::corrupt);
  EXPECT_EQ(as_text(reader.take(4)), "cdef");
  EXPECT_EQ(as_text(reader.take(0)), "");
  EXPECT_EQ(error_of([&] { reader.take(1); }).code(), Code::corrupt);
}

TEST(ByteReader, RefusesCountsThatWouldWrapAroundThePosition) {
  const std::string bytes = "abcdef";
  ByteReader reader(as_bytes(bytes));
  reader.take(3);
  for (const std::uint64_t count : {std::numeric_limits<std::uint64_t>::max(),
                                    std::numeric_limits<std::uint64_t>::max() - 2, std::uint64_t{1} << 63}) {
    EXPECT_EQ(error_of([&] { reader.take(count); }).code(), Code::corrupt) << count;
  }
  EXPECT_EQ(reader.position(), 3U);
}

TEST(ByteReader, SeeksUpToTheEndAndNotBeyond) {
  const std::string bytes = "abc";
  ByteReader reader(as_bytes(bytes));
  reader.seek(3);
  EXPECT_EQ(reader.remaining(), 0U);
  EXPECT_EQ(error_of([&] { reader.seek(4); }).code(), Code::corrupt);
  reader.seek(1);
  EXPECT_EQ(as_text(reader.take(2)), "bc");
}

TEST(ByteReader, ErrorsNameThePlaceInTheWholeFile) {
  const std::string bytes = "abc";
  ByteReader reader(as_bytes(bytes), {.file = "a.pt", .record = "data.pkl", .offset = {}, .key = {}}, 1000);
  reader.take(2);
  const Error error = error_of([&] { reader.read<std::uint32_t>(); });
  EXPECT_EQ(error.where(), (Where{.file = "a.pt", .record = "data.pkl", .offset = 1002, .key = {}}));
}

TEST(MemoryReadAt, FillsFromTheOffsetUpToTheLastByte) {
  const MemoryReadAt source("abcdef", "memory");
  std::string out(3, '?');
  source.read_at(3, std::as_writable_bytes(std::span(out)));
  EXPECT_EQ(out, "def");
  source.read_at(6, {});
  EXPECT_EQ(source.size(), 6U);
  EXPECT_EQ(source.name(), "memory");
}

TEST(MemoryReadAt, RefusesReadsPastTheEndHoweverLargeTheOffset) {
  const MemoryReadAt source("abcdef", "memory");
  std::string out(3, '?');
  for (const std::uint64_t offset : {std::uint64_t{4}, std::uint64_t{7}, std::numeric_limits<std::uint64_t>::max()}) {
    const Error error = error_of([&] { source.read_at(offset, std::as_writable_bytes(std::span(out))); });
    EXPECT_EQ(error.code(), Code::corrupt) << offset;
    EXPECT_EQ(error.where().file, "memory");
    EXPECT_EQ(error.where().offset, offset);
  }
  EXPECT_EQ(out, "???") << "a refused read must not touch the buffer";
}

TEST(Bytes, TextAndBytesAreViewsOfTheSameMemory) {
  const std::string text = "a\0b"s;
  EXPECT_EQ(as_bytes(text).size(), 3U);
  EXPECT_EQ(as_text(as_bytes(text)).data(), text.data());
}

}  // namespace
}  // namespace torchkeep
