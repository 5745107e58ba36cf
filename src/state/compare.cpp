// SPDX-License-Identifier: BSD-3-Clause
// Pairs of blocks are compared by any thread and joined in their order, so the result depends on no thread.
#include <algorithm>
#include <array>
#include <atomic>
#include <bit>
#include <cmath>
#include <cstring>
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <vector>

#include <torchkeep/base/parallel.h>

#include "numbers.h"
#include "tensor_pair.h"

namespace torchkeep {
namespace {

constexpr std::size_t kBuffer = 2048;  // numbers decoded at once

using Partial = TensorPair::Partial;

enum BlockSide : std::size_t { kSideA, kSideB };

// A block of elements, in place or read into memory of this thread that the next block of this side takes again.
Bytes read_block(const Elements& elements, std::uint64_t first, std::size_t nbytes, BlockSide side) {
  if (const std::byte* data = elements.in_place()) return {data + first * elements.item(), nbytes};
  thread_local std::array<std::vector<std::byte>, 2> memory;
  std::vector<std::byte>& bytes = memory[side];
  if (bytes.size() < nbytes) bytes.resize(nbytes);
  const MutableBytes block = std::span(bytes).first(nbytes);
  elements.read(first, block);
  return block;
}

std::uint64_t distance(std::int64_t a, std::int64_t b) {
  return a > b ? static_cast<std::uint64_t>(a) - static_cast<std::uint64_t>(b)
               : static_cast<std::uint64_t>(b) - static_cast<std::uint64_t>(a);
}

// Adds what two real numbers are apart; `apart` is |a - b|.
void add_distance(double a, double b, double apart, Partial& partial) {
  partial.absolute = std::max(partial.absolute, apart);
  const double larger = std::max(std::fabs(a), std::fabs(b));
  partial.relative =
      std::max(partial.relative, std::isinf(larger) || larger == 0 ? (apart > 0 ? 1 : 0) : apart / larger);
}

void add_product(double a, double b, Partial& partial) {
  if (!std::isfinite(a) || !std::isfinite(b)) return;
  partial.product += a * b, partial.squares_a += a * a, partial.squares_b += b * b;
}

// What the bits of a differing pair say, beyond the doubles they decode to.
struct BitPair {
  bool differ = false;
  std::uint64_t ulps = 0;
  std::optional<double> apart;  // exact, for integers
};

template <class Codec>
BitPair compare_bits(typename Codec::Bits a, typename Codec::Bits b) {
  BitPair pair;
  pair.differ = a != b;
  if (!pair.differ) return pair;
  if constexpr (numbers::IsWhole<Codec>) {
    const auto x = Codec::integer(a), y = Codec::integer(b);
    pair.ulps = x > y ? static_cast<std::uint64_t>(x) - static_cast<std::uint64_t>(y)
                      : static_cast<std::uint64_t>(y) - static_cast<std::uint64_t>(x);
    pair.apart = static_cast<double>(pair.ulps);
  } else {
    pair.ulps = distance(Codec::order(a), Codec::order(b));
  }
  return pair;
}

void add_real(double a, double b, const BitPair& bits, Partial& partial) {
  add_product(a, b, partial);
  if (!bits.differ) return;
  ++partial.differing;
  if (std::isnan(a) || std::isnan(b)) {
    ++partial.nan;
    return;
  }
  partial.ulps = std::max(partial.ulps, bits.ulps);
  add_distance(a, b, bits.apart.value_or(a == b ? 0 : std::fabs(a - b)), partial);
}

void add_complex(const double* a, const double* b, const BitPair& real, const BitPair& imaginary, Partial& partial) {
  add_product(a[0], b[0], partial);
  add_product(a[1], b[1], partial);
  if (!real.differ && !imaginary.differ) return;
  ++partial.differing;
  if (std::isnan(a[0]) || std::isnan(a[1]) || std::isnan(b[0]) || std::isnan(b[1])) {
    ++partial.nan;
    return;
  }
  partial.ulps = std::max({partial.ulps, real.ulps, imaginary.ulps});
  const double apart = std::hypot(a[0] == b[0] ? 0 : a[0] - b[0], a[1] == b[1] ? 0 : a[1] - b[1]);
  add_distance(std::hypot(a[0], a[1]), std::hypot(b[0], b[1]), apart, partial);
}

// One side: how its elements become doubles, with conjugation and negation applied.
struct Side {
  explicit Side(const Tensor& tensor)
      : decode(numbers::decoder(tensor.dtype)),
        per_item(numbers::numbers_per_item(tensor.dtype)),
        item(itemsize(tensor.dtype)),
        is_complex(info(tensor.dtype).kind == DTypeClass::complex),
        real_sign(tensor.is_neg ? -1 : 1),
        imaginary_sign(tensor.is_neg != tensor.is_conj ? -1 : 1) {}

  void run(Bytes block, std::size_t begin, std::size_t count, double* out) const {
    decode(block.data() + begin * item, count, out);
    if (real_sign == 1 && imaginary_sign == 1) return;
    for (std::size_t i = 0; i < count * per_item; ++i) out[i] *= is_complex && i % 2 == 1 ? imaginary_sign : real_sign;
  }

  numbers::Decoder decode;
  std::size_t per_item;
  std::size_t item;
  bool is_complex;
  double real_sign;
  double imaginary_sign;
};

// Bits of number i of a run that begins at `from`; halves of a byte count as numbers.
template <class Codec>
BitPair bits_at(const std::byte* a, const std::byte* b, std::size_t i) {
  using Bits = typename Codec::Bits;
  if constexpr (std::is_same_v<Codec, numbers::Float4>) {
    const auto half = [i](const std::byte* at) {
      return static_cast<Bits>(std::to_integer<unsigned>(at[i / 2]) >> (i % 2 * 4) & 15);
    };
    return compare_bits<Codec>(half(a), half(b));
  } else {
    return compare_bits<Codec>(numbers::load<Bits>(a + i * sizeof(Bits)), numbers::load<Bits>(b + i * sizeof(Bits)));
  }
}

// Compares two blocks; `bits(byte offset of a run, doubles, index)` says what differs about a pair.
template <class BitsAt>
Partial compare_blocks(const Side& side_a, const Side& side_b, Bytes a, Bytes b, BitsAt&& bits) {
  Partial partial;
  std::array<double, kBuffer> values_a, values_b;
  const std::size_t total = a.size() / side_a.item;
  const std::size_t step = kBuffer / side_a.per_item;
  for (std::size_t begin = 0; begin < total; begin += step) {
    const std::size_t count = std::min(step, total - begin);
    side_a.run(a, begin, count, values_a.data());
    side_b.run(b, begin, count, values_b.data());
    const std::byte* run_a = a.data() + begin * side_a.item;
    const std::byte* run_b = b.data() + begin * side_b.item;
    const auto pair = [&](std::size_t i) { return bits(run_a, run_b, values_a[i], values_b[i], i); };
    if (side_a.is_complex) {
      for (std::size_t i = 0; i < count * 2; i += 2) {
        add_complex(&values_a[i], &values_b[i], pair(i), pair(i + 1), partial);
      }
    } else {
      for (std::size_t i = 0; i < count * side_a.per_item; ++i) add_real(values_a[i], values_b[i], pair(i), partial);
    }
  }
  return partial;
}

// Equal dtypes and flags: by bits. Otherwise: by value, any NaN equal to any other.
Partial compare_pair(const Tensor& a, const Tensor& b, bool by_bits, Bytes bytes_a, Bytes bytes_b) {
  const Side side_a(a), side_b(b);
  if (!by_bits) {
    return compare_blocks(side_a, side_b, bytes_a, bytes_b,
                          [](const std::byte*, const std::byte*, double x, double y, std::size_t) {
                            return BitPair{x != y && !(std::isnan(x) && std::isnan(y)), 0, std::nullopt};
                          });
  }
  return numbers::with_codec(a.dtype, [&](auto codec) {
    return compare_blocks(side_a, side_b, bytes_a, bytes_b,
                          [](const std::byte* x, const std::byte* y, double, double, std::size_t i) {
                            return bits_at<decltype(codec)>(x, y, i);
                          });
  });
}

// Complex against real, or packed pairs against single numbers, have no pairs of numbers to compare.
bool same_structure(DType a, DType b) noexcept {
  return (info(a).kind == DTypeClass::complex) == (info(b).kind == DTypeClass::complex) &&
         numbers::numbers_per_item(a) == numbers::numbers_per_item(b);
}

void check_comparable(const Tensor& a, const Tensor& b) {
  if (a.sizes != b.sizes) {
    throw Error(Code::mismatch, fmt::format("cannot compare shape [{}] with shape [{}]", fmt::join(a.sizes, ", "),
                                            fmt::join(b.sizes, ", ")));
  }
  if (!same_structure(a.dtype, b.dtype)) {
    throw Error(Code::unsupported,
                fmt::format("cannot compare {} with {} by value", to_string(a.dtype), to_string(b.dtype)));
  }
}

double cosine(const Partial& all) {
  return std::clamp(all.product / (std::sqrt(all.squares_a) * std::sqrt(all.squares_b)), -1.0, 1.0);
}

}  // namespace

void TensorPair::Partial::join(const Partial& other) noexcept {
  differing += other.differing, nan += other.nan;
  ulps = std::max(ulps, other.ulps);
  absolute = std::max(absolute, other.absolute), relative = std::max(relative, other.relative);
  product += other.product, squares_a += other.squares_a, squares_b += other.squares_b;
}

TensorPair::TensorPair(const Tensor& a, const Tensor& b) : a_(&a), b_(&b), elements_a_(a), elements_b_(b) {
  check_comparable(a, b);
}

bool TensorPair::comparable(const Tensor& a, const Tensor& b) noexcept {
  return a.sizes == b.sizes && same_structure(a.dtype, b.dtype);
}

std::uint64_t TensorPair::block() const noexcept {
  return std::max(elements_a_.block(), elements_b_.block());
}

std::uint64_t TensorPair::blocks() const noexcept {
  return (elements_a_.count() + block() - 1) / block();
}

bool TensorPair::by_bits() const noexcept {
  return a_->dtype == b_->dtype && a_->is_conj == b_->is_conj && a_->is_neg == b_->is_neg;
}

bool TensorPair::equal_block(std::uint64_t number) const {
  const std::uint64_t first = number * block();
  const auto count = static_cast<std::size_t>(std::min(block(), elements_a_.count() - first));
  const Bytes a = read_block(elements_a_, first, count * elements_a_.item(), kSideA);
  const Bytes b = read_block(elements_b_, first, a.size(), kSideB);
  return std::memcmp(a.data(), b.data(), a.size()) == 0;
}

Partial TensorPair::compare_block(std::uint64_t number) const {
  const std::uint64_t first = number * block();
  const auto count = static_cast<std::size_t>(std::min(block(), elements_a_.count() - first));
  const Bytes a = read_block(elements_a_, first, count * elements_a_.item(), kSideA);
  const Bytes b = read_block(elements_b_, first, count * elements_b_.item(), kSideB);
  return compare_pair(*a_, *b_, by_bits(), a, b);
}

TensorDifference TensorPair::result(const Partial& all) const {
  TensorDifference result;
  result.count = elements_a_.count() * (a_->dtype == DType::float4_e2m1fn_x2 ? 2 : 1);
  result.differing = all.differing, result.nan = all.nan;
  result.max_absolute = all.absolute, result.max_relative = all.relative;
  if (by_bits()) result.max_ulps = all.ulps;
  if (all.differing > 0) result.cosine = cosine(all);
  return result;
}

bool equal_elements(const Tensor& a, const Tensor& b, const CompareOptions& options) {
  const TensorPair pair(a, b);
  if (a.dtype != b.dtype) {
    throw Error(Code::mismatch,
                fmt::format("cannot compare the bits of {} with {}", to_string(a.dtype), to_string(b.dtype)));
  }
  std::atomic<bool> equal{true};
  // Blocks after a difference are skipped: reading them could not change the answer.
  parallel_for(pair.blocks(), options.threads, [&](std::uint64_t number) {
    if (equal.load(std::memory_order_relaxed) && !pair.equal_block(number)) equal = false;
  });
  return equal;
}

TensorDifference compare(const Tensor& a, const Tensor& b, const CompareOptions& options) {
  const TensorPair pair(a, b);
  std::vector<Partial> partials(static_cast<std::size_t>(pair.blocks()));
  parallel_for(pair.blocks(), options.threads,
               [&](std::uint64_t number) { partials[number] = pair.compare_block(number); });
  Partial all;
  for (const Partial& partial : partials) all.join(partial);
  return pair.result(all);
}

}  // namespace torchkeep
