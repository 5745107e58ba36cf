// SPDX-License-Identifier: BSD-3-Clause
// CRC-32 equals the published check value, Python's zlib.crc32, and the bit-by-bit definition.
#include <cstdint>
#include <gtest/gtest.h>
#include <string>

#include <torchkeep/base/crc32.h>

namespace torchkeep {
namespace {

// The definition: reflected polynomial 0x04C11DB7, one bit at a time.
std::uint32_t crc32_by_definition(const std::string& bytes) {
  std::uint32_t crc = 0xFFFF'FFFFU;
  for (const unsigned char byte : bytes) {
    crc ^= byte;
    for (int bit = 0; bit < 8; ++bit) crc = (crc & 1U) != 0 ? (crc >> 1) ^ 0xEDB8'8320U : crc >> 1;
  }
  return ~crc;
}

// Bytes without a short period, so that a skipped or repeated block changes the result.
std::string sample(std::size_t size) {
  std::string bytes(size, '\0');
  std::uint32_t state = 1;
  for (char& byte : bytes) {
    state = state * 1'664'525U + 1'013'904'223U;
    byte = static_cast<char>(state >> 24);
  }
  return bytes;
}

TEST(Crc32, EqualsTheCheckValueOfTheStandard) {
  EXPECT_EQ(crc32(as_bytes("123456789")), 0xCBF4'3926U);
}

TEST(Crc32, EqualsWhatPythonsZlibComputes) {
  EXPECT_EQ(crc32(as_bytes("")), 0U);
  EXPECT_EQ(crc32(as_bytes(std::string(1, '\0'))), 0xD202'EF8DU);
  EXPECT_EQ(crc32(as_bytes("a")), 0xE8B7'BE43U);
  EXPECT_EQ(crc32(as_bytes("PyTorch")), 0x668E'89AEU);
  EXPECT_EQ(crc32(as_bytes(std::string(4096, '\xFF'))), 0xF154'670AU);
}

TEST(Crc32, EqualsTheDefinitionAtEveryLengthUpToABlockAndItsEdges) {
  const std::string bytes = sample(70'000);
  for (std::size_t size = 0; size <= 2600; ++size) {
    const std::string part = bytes.substr(0, size);
    ASSERT_EQ(crc32(as_bytes(part)), crc32_by_definition(part)) << size << " bytes";
  }
  EXPECT_EQ(crc32(as_bytes(bytes)), crc32_by_definition(bytes));
}

TEST(Crc32, IsTheSameForUnalignedBytes) {
  const std::string bytes = sample(1500);
  for (std::size_t start = 0; start < 64; ++start) {
    const std::string_view part = std::string_view(bytes).substr(start);
    ASSERT_EQ(crc32(as_bytes(part)), crc32_by_definition(std::string(part))) << "from byte " << start;
  }
}

TEST(Crc32, OfPartsContinuesFromTheSeedAtEverySplit) {
  const std::string bytes = sample(257);
  const std::uint32_t whole = crc32(as_bytes(bytes));
  for (std::size_t split = 0; split <= bytes.size(); ++split) {
    const std::uint32_t first = crc32(as_bytes(std::string_view(bytes).substr(0, split)));
    ASSERT_EQ(crc32(as_bytes(std::string_view(bytes).substr(split)), first), whole) << "split at " << split;
  }
}

TEST(Crc32, OfNothingKeepsTheSeed) {
  EXPECT_EQ(crc32({}, 0x1234'5678U), 0x1234'5678U);
}

TEST(Crc32, OfTwoRunsIsCombinedFromTheirOwn) {
  const std::string bytes = sample(70'000);
  const std::uint32_t whole = crc32(as_bytes(bytes));
  for (const std::size_t split : {0, 1, 7, 64, 255, 256, 4096, 65'535, 69'999, 70'000}) {
    const std::string_view text = bytes;
    const std::uint32_t first = crc32(as_bytes(text.substr(0, split)));
    const std::uint32_t second = crc32(as_bytes(text.substr(split)));
    EXPECT_EQ(crc32_combine(first, second, bytes.size() - split), whole) << "split at " << split;
  }
}

TEST(Crc32, IsCombinedForLengthsBeyondFourGibibytes) {
  // Zeros behind "a", 2^33 of them, by doubling: the same rule applied again and again.
  std::uint32_t zeros = crc32(as_bytes(std::string(1, '\0')));
  std::uint64_t count = 1;
  for (; count < (std::uint64_t{1} << 33); count *= 2) zeros = crc32_combine(zeros, zeros, count);
  const std::uint32_t a = crc32(as_bytes("a"));
  std::uint32_t expected = a;
  std::uint32_t block = crc32(as_bytes(std::string(1 << 20, '\0')));
  for (int i = 0; i < (1 << 13); ++i) expected = crc32_combine(expected, block, 1 << 20);
  EXPECT_EQ(crc32_combine(a, zeros, count), expected);
}

}  // namespace
}  // namespace torchkeep
