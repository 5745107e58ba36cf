// SPDX-License-Identifier: BSD-3-Clause
// A storage that converts elements as they are read: decode to doubles, round to the target's bits.
#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <fmt/format.h>

#include <torchkeep/state/cast.h>
#include <torchkeep/state/elements.h>

#include "numbers.h"

namespace torchkeep {
namespace {

constexpr std::size_t kBuffer = 2048;  // numbers converted at once

// The layout of a float narrower than float32: where overflow goes, and the pattern of NaN.
struct Narrow {
  unsigned mantissa;
  unsigned bias;
  std::uint32_t largest;   // finite, without sign
  std::uint32_t overflow;  // what lies beyond becomes this
  std::uint32_t nan;
  unsigned sign;  // position of the sign bit
};

constexpr Narrow kFloat16 = {10, 15, 0x7bff, 0x7c00, 0x7e00, 15};
constexpr Narrow kE5M2 = {2, 15, 0x7b, 0x7c, 0x7f, 7};
constexpr Narrow kE4M3FN = {3, 7, 0x7e, 0x7e, 0x7f, 7};  // as PyTorch since 2.13: saturates

// Rounds to the nearest, ties to even.
std::uint32_t encode(float value, const Narrow& to) noexcept {
  const auto bits = std::bit_cast<std::uint32_t>(value);
  const std::uint32_t sign = bits >> 31 << to.sign;
  const std::uint32_t magnitude = bits & 0x7fff'ffffu;
  if (magnitude > 0x7f80'0000u) return sign | to.nan;
  const std::uint32_t smallest_normal = (127 + 1 - to.bias) << 23;
  std::uint32_t result = 0;
  if (magnitude >= smallest_normal) {
    const unsigned shift = 23 - to.mantissa;
    const std::uint32_t rounded = magnitude + (1u << (shift - 1)) - 1 + (magnitude >> shift & 1);
    result = (rounded >> shift) - ((127 - to.bias) << to.mantissa);
  } else {
    // In units of the smallest denormal; adding 2^23 leaves the rounded integer in the low bits.
    const float unit = std::bit_cast<float>((127 + to.bias - 1 + to.mantissa) << 23);
    result = std::bit_cast<std::uint32_t>(std::bit_cast<float>(magnitude) * unit + 0x1p23f) & 0x7f'ffffu;
  }
  return sign | (result > to.largest ? to.overflow : result);
}

std::uint32_t encode_bfloat16(float value) noexcept {
  const auto bits = std::bit_cast<std::uint32_t>(value);
  if ((bits & 0x7fff'ffffu) > 0x7f80'0000u) return (bits >> 16 & 0x8000u) | 0x7fc0u;
  return (bits + 0x7fffu + (bits >> 16 & 1)) >> 16;
}

template <class T>
void store(std::byte* to, std::size_t i, T value) {
  std::memcpy(to + i * sizeof(T), &value, sizeof(T));
}

// Turns `count` doubles into numbers of a dtype.
using Encoder = void (*)(const double* from, std::size_t count, std::byte* to);

template <class T>
void encode_native(const double* from, std::size_t count, std::byte* to) {
  for (std::size_t i = 0; i < count; ++i) store(to, i, static_cast<T>(from[i]));
}

template <class Bits, const Narrow& narrow>
void encode_narrow(const double* from, std::size_t count, std::byte* to) {
  for (std::size_t i = 0; i < count; ++i) store(to, i, static_cast<Bits>(encode(static_cast<float>(from[i]), narrow)));
}

void encode_brain(const double* from, std::size_t count, std::byte* to) {
  for (std::size_t i = 0; i < count; ++i) {
    store(to, i, static_cast<std::uint16_t>(encode_bfloat16(static_cast<float>(from[i]))));
  }
}

// Null where nothing is converted to that dtype.
Encoder encoder(DType dtype) noexcept {
  switch (dtype) {
    case DType::float64:
    case DType::complex128:
      return encode_native<double>;
    case DType::float32:
    case DType::complex64:
      return encode_native<float>;
    case DType::float16:
      return encode_narrow<std::uint16_t, kFloat16>;
    case DType::bfloat16:
      return encode_brain;
    case DType::float8_e5m2:
      return encode_narrow<std::uint8_t, kE5M2>;
    case DType::float8_e4m3fn:
      return encode_narrow<std::uint8_t, kE4M3FN>;
    default:
      return nullptr;
  }
}

class CastStorage final : public Storage {
 public:
  CastStorage(const Tensor& tensor, DType to)
      : source_(contiguous_storage(tensor)),
        decode_(numbers::decoder(tensor.dtype)),
        encode_(encoder(to)),
        from_item_(itemsize(tensor.dtype)),
        to_item_(itemsize(to)),
        per_item_(numbers::numbers_per_item(tensor.dtype)),
        nbytes_(source_->nbytes() / from_item_ * to_item_) {}

  std::uint64_t nbytes() const noexcept override { return nbytes_; }
  const std::string& location() const noexcept override { return source_->location(); }

  void read(std::uint64_t offset, MutableBytes out) const override {
    if (offset > nbytes_ || out.size() > nbytes_ - offset) {
      throw Error(Code::invalid_argument,
                  fmt::format("bytes [{}, +{}) lie outside a storage of {} bytes", offset, out.size(), nbytes_));
    }
    // The first and the last element may be cut.
    std::vector<std::byte> converted;
    const std::uint64_t step = kBuffer / per_item_;
    for (std::uint64_t at = offset; at < offset + out.size();) {
      const std::uint64_t first = at / to_item_;
      const std::uint64_t last = std::min((offset + out.size() + to_item_ - 1) / to_item_, first + step);
      convert(first, static_cast<std::size_t>(last - first), converted);
      const std::uint64_t end = std::min(last * to_item_, offset + out.size());
      std::memcpy(out.data() + (at - offset), converted.data() + (at - first * to_item_), end - at);
      at = end;
    }
  }

 private:
  void convert(std::uint64_t first, std::size_t count, std::vector<std::byte>& converted) const {
    std::array<double, kBuffer> values;
    std::vector<std::byte> bytes(count * from_item_);
    source_->read(first * from_item_, bytes);
    decode_(bytes.data(), count, values.data());
    converted.resize(count * to_item_);
    encode_(values.data(), count * per_item_, converted.data());
  }

  StoragePtr source_;
  numbers::Decoder decode_;
  Encoder encode_;
  std::size_t from_item_;
  std::size_t to_item_;
  std::size_t per_item_;
  std::uint64_t nbytes_;
};

}  // namespace

bool can_cast(DType from, DType to) noexcept {
  if (from == to) return true;
  const DTypeInfo &source = info(from), &target = info(to);
  if (encoder(to) == nullptr || source.kind != target.kind || from == DType::float4_e2m1fn_x2) return false;
  return source.kind == DTypeClass::floating ||
         (source.kind == DTypeClass::complex && source.itemsize < target.itemsize);
}

Tensor cast(const Tensor& tensor, DType dtype) {
  if (!can_cast(tensor.dtype, dtype)) {
    throw Error(Code::unsupported,
                fmt::format("no conversion from {} to {}", to_string(tensor.dtype), to_string(dtype)));
  }
  Tensor result = tensor;
  result.dtype = dtype;
  result.strides = contiguous_strides(tensor.sizes);
  result.storage_offset = 0;
  const bool keeps = tensor.dtype == dtype || tensor.is_meta();
  result.storage = keeps ? contiguous_storage(tensor) : std::make_shared<CastStorage>(tensor, dtype);
  return result;
}

}  // namespace torchkeep
