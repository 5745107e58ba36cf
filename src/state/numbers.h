// SPDX-License-Identifier: BSD-3-Clause
// What the bits of each dtype stand for: one codec per dtype, and tables for the small ones. Private to the state
// layer.
//
// A codec has `Bits` (the unsigned integer that an element, or a part of a complex one, is stored as), `value(bits)` as
// a double, and `order(bits)`, which grows by one from each representable value to the next (for ULPs); codecs of
// integers have `integer(bits)`, exact, instead.
#pragma once

#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>

#include <torchkeep/state/dtype.h>

namespace torchkeep::numbers {

/// Sign and magnitude to a number that grows with the value; both zeros are 0.
template <class Bits>
constexpr std::int64_t order_of_magnitude(Bits bits) noexcept {
  constexpr Bits kSign = static_cast<Bits>(Bits{1} << (sizeof(Bits) * 8 - 1));
  const auto magnitude = static_cast<std::int64_t>(static_cast<Bits>(bits & static_cast<Bits>(~kSign)));
  return (bits & kSign) != 0 ? -magnitude : magnitude;
}

/// How the 8-bit and 4-bit floats differ from IEEE 754.
enum class Special : std::uint8_t {
  ieee,        ///< the highest exponent is infinity (no mantissa) or NaN
  all_ones,    ///< "fn": no infinity; NaN has exponent and mantissa all ones
  minus_zero,  ///< "fnuz": no infinity and no -0; its pattern is NaN
  none,        ///< "fn" of 4 bits: finite numbers only
};

/// The value of a small float with `exponent` and `mantissa` bits below its sign bit.
constexpr double decode_small(unsigned bits, int exponent, int mantissa, int bias, Special special) noexcept {
  const unsigned sign = bits >> (exponent + mantissa) & 1;
  const int high = static_cast<int>(bits >> mantissa & ((1u << exponent) - 1));
  const unsigned low = bits & ((1u << mantissa) - 1);
  const bool highest = high == (1 << exponent) - 1;
  constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
  if (special == Special::minus_zero && sign == 1 && high == 0 && low == 0) return kNan;
  if (special == Special::all_ones && highest && low == (1u << mantissa) - 1) return kNan;
  double magnitude = 0;
  if (special == Special::ieee && highest) {
    magnitude = low != 0 ? kNan : std::numeric_limits<double>::infinity();
  } else {
    magnitude = static_cast<double>(high == 0 ? low : low + (1u << mantissa));
    int power = (high == 0 ? 1 : high) - bias - mantissa;
    for (; power > 0; --power) magnitude *= 2;
    for (; power < 0; ++power) magnitude /= 2;
  }
  return sign == 1 ? -magnitude : magnitude;
}

constexpr std::array<double, 256> small_table(int exponent, int mantissa, int bias, Special special) noexcept {
  std::array<double, 256> table{};
  for (unsigned bits = 0; bits < 256; ++bits) table[bits] = decode_small(bits, exponent, mantissa, bias, special);
  return table;
}

/// E8M0 (the OCP microscaling specification): a power of two from 2^-127 to 2^127, 255 is NaN.
constexpr std::array<double, 256> scale_table() noexcept {
  std::array<double, 256> table{};
  for (unsigned bits = 0; bits < 255; ++bits) {
    table[bits] = std::bit_cast<double>(static_cast<std::uint64_t>(bits + 1023 - 127) << 52);
  }
  table[255] = std::numeric_limits<double>::quiet_NaN();
  return table;
}

inline constexpr auto kE5M2 = small_table(5, 2, 15, Special::ieee);
inline constexpr auto kE4M3FN = small_table(4, 3, 7, Special::all_ones);
inline constexpr auto kE5M2FNUZ = small_table(5, 2, 16, Special::minus_zero);
inline constexpr auto kE4M3FNUZ = small_table(4, 3, 8, Special::minus_zero);
inline constexpr auto kE8M0FNU = scale_table();
inline constexpr auto kE2M1FN = [] {
  std::array<double, 16> table{};
  for (unsigned bits = 0; bits < 16; ++bits) table[bits] = decode_small(bits, 2, 1, 1, Special::none);
  return table;
}();

/// Normal floats only on the way: a program that flushes denormals to zero must not change what is read.
inline double half_to_double(std::uint16_t bits) noexcept {
  const std::uint32_t sign = static_cast<std::uint32_t>(bits & 0x8000u) << 16;
  const std::uint32_t magnitude = bits & 0x7fffu;
  if (magnitude < 0x400u) {
    const float value = static_cast<float>(magnitude) * 0x1p-24f;
    return sign != 0 ? -value : value;
  }
  const std::uint32_t exponent = (magnitude >= 0x7c00u ? 255u - 31u : 127u - 15u) << 23;
  return std::bit_cast<float>(sign | ((magnitude << 13) + exponent));
}

template <class Number, class BitsOfIt>
struct Native {
  using Bits = BitsOfIt;
  static double value(Bits bits) noexcept { return static_cast<double>(std::bit_cast<Number>(bits)); }
  static std::int64_t order(Bits bits) noexcept { return order_of_magnitude(bits); }
};
using Float64 = Native<double, std::uint64_t>;
using Float32 = Native<float, std::uint32_t>;

struct Float16 {
  using Bits = std::uint16_t;
  static double value(Bits bits) noexcept { return half_to_double(bits); }
  static std::int64_t order(Bits bits) noexcept { return order_of_magnitude(bits); }
};

struct BFloat16 {
  using Bits = std::uint16_t;
  static double value(Bits bits) noexcept { return std::bit_cast<float>(static_cast<std::uint32_t>(bits) << 16); }
  static std::int64_t order(Bits bits) noexcept { return order_of_magnitude(bits); }
};

template <const std::array<double, 256>& table>
struct Float8 {
  using Bits = std::uint8_t;
  static double value(Bits bits) noexcept { return table[bits]; }
  static std::int64_t order(Bits bits) noexcept { return order_of_magnitude(bits); }
};

struct Scale8 {
  using Bits = std::uint8_t;
  static double value(Bits bits) noexcept { return kE8M0FNU[bits]; }
  static std::int64_t order(Bits bits) noexcept { return bits; }
};

/// Integers: exact arithmetic is done on `Integer`, everything else on doubles.
template <class IntegerType, class BitsOfIt>
struct Whole {
  using Bits = BitsOfIt;
  using Integer = IntegerType;
  static Integer integer(Bits bits) noexcept { return static_cast<Integer>(bits); }
  static double value(Bits bits) noexcept { return static_cast<double>(static_cast<Integer>(bits)); }
};

/// torch.bool: any byte but 0 is True.
struct Truth {
  using Bits = std::uint8_t;
  using Integer = std::uint8_t;
  static Integer integer(Bits bits) noexcept { return bits != 0; }
  static double value(Bits bits) noexcept { return bits != 0; }
};

template <class T>
concept IsWhole = requires {
  typename T::Integer;
};

/// Half a byte.
struct Float4 {
  using Bits = std::uint8_t;
  static double value(Bits bits) noexcept { return kE2M1FN[bits & 15]; }
  static std::int64_t order(Bits bits) noexcept { return (bits & 8) != 0 ? -(bits & 7) : bits & 7; }
};

/// Calls f(codec) for a dtype. Quantized dtypes are their stored integers; the dtypes of a few bits, which
/// PyTorch only stores, are their bytes.
template <class F>
decltype(auto) with_codec(DType dtype, F&& f) {
  switch (dtype) {
    case DType::float64:
      return f(Float64());
    case DType::float32:
      return f(Float32());
    case DType::float16:
      return f(Float16());
    case DType::bfloat16:
      return f(BFloat16());
    case DType::float8_e5m2:
      return f(Float8<kE5M2>());
    case DType::float8_e4m3fn:
      return f(Float8<kE4M3FN>());
    case DType::float8_e5m2fnuz:
      return f(Float8<kE5M2FNUZ>());
    case DType::float8_e4m3fnuz:
      return f(Float8<kE4M3FNUZ>());
    case DType::float8_e8m0fnu:
      return f(Scale8());
    case DType::float4_e2m1fn_x2:
      return f(Float4());
    case DType::complex128:
      return f(Float64());
    case DType::complex64:
      return f(Float32());
    case DType::complex32:
      return f(Float16());
    case DType::int64:
      return f(Whole<std::int64_t, std::uint64_t>());
    case DType::int32:
    case DType::qint32:
      return f(Whole<std::int32_t, std::uint32_t>());
    case DType::int16:
      return f(Whole<std::int16_t, std::uint16_t>());
    case DType::int8:
    case DType::qint8:
      return f(Whole<std::int8_t, std::uint8_t>());
    case DType::uint64:
      return f(Whole<std::uint64_t, std::uint64_t>());
    case DType::uint32:
      return f(Whole<std::uint32_t, std::uint32_t>());
    case DType::uint16:
    case DType::bits16:
      return f(Whole<std::uint16_t, std::uint16_t>());
    case DType::boolean:
      return f(Truth());
    default:
      return f(Whole<std::uint8_t, std::uint8_t>());
  }
}

template <class Bits>
Bits load(const std::byte* from) noexcept {
  Bits bits;
  std::memcpy(&bits, from, sizeof(Bits));
  return bits;
}

/// Numbers in one element: two for a complex number and for a byte of two 4-bit floats (low half first), else one.
std::size_t numbers_per_item(DType dtype) noexcept;

/// Turns `count` elements into doubles, numbers_per_item of them each.
using Decoder = void (*)(const std::byte* from, std::size_t count, double* out);
Decoder decoder(DType dtype) noexcept;

}  // namespace torchkeep::numbers
