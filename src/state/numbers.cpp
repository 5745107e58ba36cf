// SPDX-License-Identifier: BSD-3-Clause
// Runs of elements to doubles, one loop per dtype.
#include "numbers.h"

namespace torchkeep::numbers {
namespace {

template <class Codec, std::size_t per_item>
void decode_run(const std::byte* from, std::size_t count, double* out) {
  using Bits = typename Codec::Bits;
  for (std::size_t i = 0; i < count * per_item; ++i) out[i] = Codec::value(load<Bits>(from + i * sizeof(Bits)));
}

void decode_halves(const std::byte* from, std::size_t count, double* out) {
  for (std::size_t i = 0; i < count; ++i) {
    const auto pair = std::to_integer<std::uint8_t>(from[i]);
    out[2 * i] = Float4::value(pair);
    out[2 * i + 1] = Float4::value(static_cast<std::uint8_t>(pair >> 4));
  }
}

}  // namespace

std::size_t numbers_per_item(DType dtype) noexcept {
  return info(dtype).kind == DTypeClass::complex || dtype == DType::float4_e2m1fn_x2 ? 2 : 1;
}

Decoder decoder(DType dtype) noexcept {
  if (dtype == DType::float4_e2m1fn_x2) return decode_halves;
  const bool is_complex = info(dtype).kind == DTypeClass::complex;
  return with_codec(dtype, [&](auto codec) -> Decoder {
    using Codec = decltype(codec);
    if constexpr (std::is_same_v<Codec, Float64> || std::is_same_v<Codec, Float32> || std::is_same_v<Codec, Float16>) {
      if (is_complex) return decode_run<Codec, 2>;
    }
    return decode_run<Codec, 1>;
  });
}

}  // namespace torchkeep::numbers
