// SPDX-License-Identifier: BSD-3-Clause
// CRC-32 of bytes by ISA-L, else by libdeflate; of concatenated runs by arithmetic in GF(2)[x] modulo the polynomial.
#if defined(TORCHKEEP_ISAL)
#include <isa-l/crc.h>
#else
#include <libdeflate.h>
#endif

#include <torchkeep/base/crc32.h>

namespace torchkeep {
namespace {

constexpr std::uint32_t kPolynomial = 0xedb88320;  // reflected: bit 31 is the coefficient of x^0
constexpr std::uint32_t kOne = 0x80000000;

/// a * b modulo the polynomial.
std::uint32_t multiply(std::uint32_t a, std::uint32_t b) noexcept {
  std::uint32_t product = 0;
  for (; a != 0; a <<= 1) {
    if ((a & kOne) != 0) product ^= b;
    b = (b & 1) != 0 ? (b >> 1) ^ kPolynomial : b >> 1;  // b * x
  }
  return product;
}

}  // namespace

std::uint32_t crc32(Bytes bytes, std::uint32_t seed) noexcept {
  if (bytes.empty()) return seed;  // libdeflate takes a null pointer as "start over" and would forget the seed
#if defined(TORCHKEEP_ISAL)
  return crc32_gzip_refl(seed, reinterpret_cast<const unsigned char*>(bytes.data()), bytes.size());
#else
  return libdeflate_crc32(seed, bytes.data(), bytes.size());
#endif
}

// Appending n bytes multiplies what came before by x^(8n).
std::uint32_t crc32_combine(std::uint32_t first, std::uint32_t second, std::uint64_t second_size) noexcept {
  std::uint32_t square = kOne >> 8;  // x^8
  for (; second_size != 0; second_size >>= 1) {
    if ((second_size & 1) != 0) first = multiply(square, first);
    square = multiply(square, square);
  }
  return first ^ second;
}

}  // namespace torchkeep
