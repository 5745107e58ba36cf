// SPDX-License-Identifier: BSD-3-Clause
// Gopal et al., "Fast CRC Computation for Generic Polynomials Using PCLMULQDQ" (Intel, 2009), four lanes of 512 bits.
#include "crc32_fold.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace torchkeep::detail {

#if defined(__x86_64__)

namespace {

// x^exponent modulo the polynomial, where a multiplication of reflected 64-bit halves wants it.
constexpr long long power_of_x(unsigned exponent) noexcept {
  std::uint32_t power = 0x80000000;
  for (std::uint32_t square = 0x40000000; exponent != 0; exponent >>= 1, square = multiply_crc(square, square)) {
    if ((exponent & 1) != 0) power = multiply_crc(power, square);
  }
  return static_cast<long long>(power) << 1;
}

// What moves 128 bits so many bits further on: for their first half, and for their second.
struct Shift {
  long long first, second;
};
constexpr Shift shift_by(unsigned bits) noexcept {
  return {power_of_x(bits + 32), power_of_x(bits - 32)};
}
constexpr Shift kFourLanes = shift_by(4 * 512);
constexpr Shift kOneLane = shift_by(512);

#define TORCHKEEP_WIDE __attribute__((target("avx512f,vpclmulqdq")))

TORCHKEEP_WIDE inline __m512i load(const std::byte* from) noexcept {
  return _mm512_loadu_si512(from);
}

TORCHKEEP_WIDE inline __m512i constant(Shift shift) noexcept {
  return _mm512_set_epi64(shift.second, shift.first, shift.second, shift.first, shift.second, shift.first, shift.second,
                          shift.first);
}

// `lane`, moved as far as `shift` says, plus `next`.
TORCHKEEP_WIDE inline __m512i fold(__m512i lane, __m512i shift, __m512i next) noexcept {
  return _mm512_ternarylogic_epi64(_mm512_clmulepi64_epi128(lane, shift, 0x00),
                                   _mm512_clmulepi64_epi128(lane, shift, 0x11), next, 0x96);  // a ^ b ^ c
}

}  // namespace

bool can_fold_crc() noexcept {
  static const bool can = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("vpclmulqdq");
  return can;
}

TORCHKEEP_WIDE Folded fold_crc(Bytes bytes, std::uint32_t seed) noexcept {
  const std::byte* from = bytes.data();
  const std::byte* const end = from + bytes.size();
  const __m512i before = _mm512_zextsi128_si512(_mm_cvtsi32_si128(static_cast<int>(~seed)));
  __m512i a = _mm512_xor_si512(load(from), before);
  __m512i b = load(from + 64), c = load(from + 128), d = load(from + 192);
  const __m512i four_lanes = constant(kFourLanes), one_lane = constant(kOneLane);
  for (from += kFoldStep; from != end; from += kFoldStep) {
    a = fold(a, four_lanes, load(from));
    b = fold(b, four_lanes, load(from + 64));
    c = fold(c, four_lanes, load(from + 128));
    d = fold(d, four_lanes, load(from + 192));
  }
  Folded folded;
  _mm512_store_si512(folded.bytes, fold(fold(fold(a, one_lane, b), one_lane, c), one_lane, d));
  return folded;
}

#undef TORCHKEEP_WIDE

#else

bool can_fold_crc() noexcept {
  return false;
}

Folded fold_crc(Bytes, std::uint32_t) noexcept {
  return {};
}

#endif

}  // namespace torchkeep::detail
