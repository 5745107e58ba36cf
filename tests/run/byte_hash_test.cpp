// SPDX-License-Identifier: BSD-3-Clause
// The hash that proves what was written.
#include "byte_hash.h"

#include <gtest/gtest.h>
#include <vector>

#include <torchkeep/base/crc32.h>

namespace torchkeep {
namespace {

std::vector<std::byte> some_bytes(std::size_t count) {
  std::vector<std::byte> bytes(count);
  std::uint32_t state = 1;
  for (std::byte& byte : bytes) byte = static_cast<std::byte>((state = state * 1664525 + 1013904223) >> 24);
  return bytes;
}

TEST(ByteHash, OfPartsIsThatOfTheWholeWhereverItIsCut) {
  ByteHash hash;
  for (const std::size_t size : {0U, 1U, 16U, 240U, 241U, 1024U, 5000U}) {
    const std::vector<std::byte> bytes = some_bytes(size);
    for (std::size_t cut = 0; cut <= size; cut += 1 + cut / 3) {
      hash.restart();
      hash.add(Bytes(bytes).first(cut));
      hash.add(Bytes(bytes).subspan(cut));
      EXPECT_EQ(hash.result(), ByteHash::of(bytes)) << cut << " of " << size;
    }
  }
}

TEST(ByteHash, ChangesWithEveryBit) {
  std::vector<std::byte> bytes = some_bytes(700);
  const std::uint64_t before = ByteHash::of(bytes);
  for (std::size_t bit = 0; bit < 8 * bytes.size(); ++bit) {
    bytes[bit / 8] ^= std::byte{1} << bit % 8;
    EXPECT_NE(ByteHash::of(bytes), before) << bit;
    bytes[bit / 8] ^= std::byte{1} << bit % 8;
  }
}

TEST(ByteHash, SeesAChangeThatACrc32DoesNot) {
  std::vector<std::byte> bytes = some_bytes(64);
  const std::uint32_t crc = crc32(bytes);
  const std::uint64_t hash = ByteHash::of(bytes);
  // A multiple of the polynomial: added anywhere, it keeps the CRC.
  constexpr std::uint8_t kKeepsTheCrc[] = {0x41, 0x06, 0x71, 0xdb, 0x01};
  for (std::size_t i = 0; i < std::size(kKeepsTheCrc); ++i) bytes[20 + i] ^= static_cast<std::byte>(kKeepsTheCrc[i]);
  ASSERT_EQ(crc32(bytes), crc);
  EXPECT_NE(ByteHash::of(bytes), hash);
}

}  // namespace
}  // namespace torchkeep
