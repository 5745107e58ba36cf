// SPDX-License-Identifier: BSD-3-Clause
// CRC-32 of bytes by libdeflate, of long runs by folding them first; of concatenated runs by arithmetic in GF(2)[x]
// modulo the polynomial.
#include <libdeflate.h>

#include <torchkeep/base/crc32.h>

#include "crc32_fold.h"

namespace torchkeep {
namespace {

constexpr std::uint32_t kOne = 0x80000000;  // x^0
// Below, folding costs more than it saves.
constexpr std::size_t kFoldFrom = 1024;

}  // namespace

std::uint32_t crc32(Bytes bytes, std::uint32_t seed) noexcept {
  if (bytes.size() >= kFoldFrom && detail::can_fold_crc()) {
    const std::size_t folded_size = bytes.size() / detail::kFoldStep * detail::kFoldStep;
    const detail::Folded folded = detail::fold_crc(bytes.first(folded_size), seed);
    seed = libdeflate_crc32(~std::uint32_t{0}, folded.bytes, sizeof(folded.bytes));
    bytes = bytes.subspan(folded_size);
  }
  // libdeflate takes a null pointer as "start over" and would forget the seed.
  return bytes.empty() ? seed : libdeflate_crc32(seed, bytes.data(), bytes.size());
}

// Appending n bytes multiplies what came before by x^(8n).
std::uint32_t crc32_combine(std::uint32_t first, std::uint32_t second, std::uint64_t second_size) noexcept {
  std::uint32_t square = kOne >> 8;  // x^8
  for (; second_size != 0; second_size >>= 1) {
    if ((second_size & 1) != 0) first = detail::multiply_crc(square, first);
    square = detail::multiply_crc(square, square);
  }
  return first ^ second;
}

}  // namespace torchkeep
