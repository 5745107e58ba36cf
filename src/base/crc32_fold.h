// SPDX-License-Identifier: BSD-3-Clause
// CRC-32 of long runs with 512-bit carry-less multiplication, where the processor has it.
#pragma once

#include <cstdint>

#include <torchkeep/base/bytes.h>

namespace torchkeep::detail {

/// a * b modulo the polynomial of CRC-32, reflected: bit 31 is the coefficient of x^0.
constexpr std::uint32_t multiply_crc(std::uint32_t a, std::uint32_t b) noexcept {
  constexpr std::uint32_t kPolynomial = 0xedb88320;
  std::uint32_t product = 0;
  for (; a != 0; a <<= 1) {
    if ((a & 0x80000000) != 0) product ^= b;
    b = (b & 1) != 0 ? (b >> 1) ^ kPolynomial : b >> 1;  // b * x
  }
  return product;
}

/// Runs that fold_crc() takes are multiples of this.
inline constexpr std::size_t kFoldStep = 256;
/// 64 bytes whose CRC-32, begun at the register's zero, is that of the whole run.
struct Folded {
  alignas(64) std::byte bytes[64];
};

/// Whether this processor can fold_crc().
bool can_fold_crc() noexcept;
/// Folds a run, at least kFoldStep bytes long, that follows data with the CRC-32 `seed`.
Folded fold_crc(Bytes bytes, std::uint32_t seed) noexcept;

}  // namespace torchkeep::detail
