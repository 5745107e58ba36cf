// SPDX-License-Identifier: BSD-3-Clause
// Blocks of a tensor are summed up by any thread and joined in their order, so the result depends on no thread.
// Mean and squared deviations of two parts are joined as by Chan, Golub and LeVeque (1983).
#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <fmt/format.h>
#include <limits>
#include <mutex>

#include <torchkeep/base/parallel.h>
#include <torchkeep/base/scale.h>
#include <torchkeep/state/elements.h>
#include <torchkeep/state/statistics.h>

#include "numbers.h"

namespace torchkeep {
namespace {

constexpr unsigned kMaxBins = 1'000'000;
constexpr std::size_t kBuffer = 2048;  // numbers decoded at once: they stay in the first-level cache
constexpr double kInfinity = std::numeric_limits<double>::infinity();

// Sums over finite numbers (complex ones have two parts).
struct Moments {
  std::uint64_t count = 0;
  double mean = 0, mean_imaginary = 0;
  double squares = 0;  // of the deviations from the mean

  void join(const Moments& other) {
    if (other.count == 0) return;
    const double total = static_cast<double>(count + other.count);
    const double share = static_cast<double>(other.count) / total;
    const double step = other.mean - mean;
    const double step_imaginary = other.mean_imaginary - mean_imaginary;
    squares += other.squares + (step * step + step_imaginary * step_imaginary) * static_cast<double>(count) * share;
    mean += step * share;
    mean_imaginary += step_imaginary * share;
    count += other.count;
  }
};

struct Partial {
  Moments moments;
  std::uint64_t nan = 0, positive = 0, negative = 0, zero = 0;
  double low = kInfinity, high = -kInfinity;
  // Exact range of integers, as offsets that compare like the numbers do.
  std::int64_t low_signed = std::numeric_limits<std::int64_t>::max();
  std::int64_t high_signed = std::numeric_limits<std::int64_t>::min();
  std::uint64_t low_unsigned = std::numeric_limits<std::uint64_t>::max();
  std::uint64_t high_unsigned = 0;

  void join(const Partial& other) {
    moments.join(other.moments);
    nan += other.nan, positive += other.positive, negative += other.negative, zero += other.zero;
    low = std::min(low, other.low), high = std::max(high, other.high);
    low_signed = std::min(low_signed, other.low_signed), high_signed = std::max(high_signed, other.high_signed);
    low_unsigned = std::min(low_unsigned, other.low_unsigned);
    high_unsigned = std::max(high_unsigned, other.high_unsigned);
  }
};

// The sum of f(values[i]) in eight interleaved parts, which a compiler may add side by side.
template <class F>
double sum_of(const double* values, std::size_t count, F&& f) {
  constexpr std::size_t kLanes = 8;
  std::array<double, kLanes> sums{};
  std::size_t i = 0;
  for (; i + kLanes <= count; i += kLanes) {
    for (std::size_t lane = 0; lane < kLanes; ++lane) sums[lane] += f(values[i + lane]);
  }
  for (; i < count; ++i) sums[i % kLanes] += f(values[i]);
  double sum = 0;
  for (const double part : sums) sum += part;
  return sum;
}

Moments moments_of(const double* values, std::size_t count) {
  Moments moments;
  moments.count = count;
  if (count == 0) return moments;
  moments.mean = sum_of(values, count, [](double value) { return value; }) / static_cast<double>(count);
  moments.squares =
      sum_of(values, count, [mean = moments.mean](double value) { return (value - mean) * (value - mean); });
  return moments;
}

// Removes what is not finite from `values`, counting it; returns how many are left.
std::size_t keep_finite(double* values, std::size_t count, Partial& partial) {
  if (sum_of(values, count, [](double value) { return value * 0; }) == 0) return count;  // else something made a NaN
  std::size_t kept = 0;
  for (std::size_t i = 0; i < count; ++i) {
    if (std::isnan(values[i]))
      ++partial.nan;
    else if (std::isinf(values[i]))
      ++(values[i] > 0 ? partial.positive : partial.negative);
    else
      values[kept++] = values[i];
  }
  return kept;
}

void add_reals(double* values, std::size_t count, int exponent, Partial& partial) {
  count = keep_finite(values, count, partial);
  for (std::size_t i = 0; i < count; ++i) {
    partial.low = std::min(partial.low, values[i]);
    partial.high = std::max(partial.high, values[i]);
    partial.zero += values[i] == 0;
    if (exponent != 0) values[i] = std::ldexp(values[i], -exponent);
  }
  partial.moments.join(moments_of(values, count));
}

// Of a complex number with finite parts; finite too.
double magnitude_of(double real, double imaginary) {
  return std::min(std::hypot(real, imaginary), std::numeric_limits<double>::max());
}

// `values` are pairs of real and imaginary parts; the range is that of the magnitudes.
void add_complex(const double* values, std::size_t pairs, int exponent, Partial& partial) {
  for (std::size_t i = 0; i < pairs; ++i) {
    const double real = values[2 * i], imaginary = values[2 * i + 1];
    if (std::isnan(real) || std::isnan(imaginary)) {
      ++partial.nan;
    } else if (std::isinf(real) || std::isinf(imaginary)) {
      ++partial.positive;
    } else {
      partial.zero += real == 0 && imaginary == 0;
      const double magnitude = magnitude_of(real, imaginary);
      partial.low = std::min(partial.low, magnitude), partial.high = std::max(partial.high, magnitude);
      partial.moments.join({1, std::ldexp(real, -exponent), std::ldexp(imaginary, -exponent), 0});
    }
  }
}

// Calls consume(doubles, count) for runs of a block's numbers; a complex number is never cut.
template <class Consume>
void decode(DType dtype, Bytes block, Consume&& consume) {
  std::array<double, kBuffer> buffer;
  const numbers::Decoder decode_items = numbers::decoder(dtype);
  const std::size_t per_item = numbers::numbers_per_item(dtype);
  const std::size_t item = itemsize(dtype);
  const std::size_t total = block.size() / item;
  const std::size_t step = kBuffer / per_item;
  for (std::size_t begin = 0; begin < total; begin += step) {
    const std::size_t count = std::min(step, total - begin);
    decode_items(block.data() + begin * item, count, buffer.data());
    consume(buffer.data(), count * per_item);
  }
}

template <class Codec>
void exact_range(Bytes block, Codec, Partial& partial) {
  using Bits = typename Codec::Bits;
  for (std::size_t at = 0; at < block.size(); at += sizeof(Bits)) {
    const auto number = Codec::integer(numbers::load<Bits>(block.data() + at));
    if constexpr (std::is_signed_v<decltype(number)>) {
      partial.low_signed = std::min<std::int64_t>(partial.low_signed, number);
      partial.high_signed = std::max<std::int64_t>(partial.high_signed, number);
    } else {
      partial.low_unsigned = std::min<std::uint64_t>(partial.low_unsigned, number);
      partial.high_unsigned = std::max<std::uint64_t>(partial.high_unsigned, number);
    }
  }
}

// What the numbers are, and the moments of the numbers divided by 2 ** exponent.
Partial sum_up(DType dtype, Bytes block, int exponent) {
  Partial partial;
  numbers::with_codec(dtype, [&](auto codec) {
    if constexpr (numbers::IsWhole<decltype(codec)>) exact_range(block, codec, partial);
  });
  const bool is_complex = info(dtype).kind == DTypeClass::complex;
  decode(dtype, block, [&](double* values, std::size_t count) {
    if (is_complex)
      add_complex(values, count / 2, exponent, partial);
    else
      add_reals(values, count, exponent, partial);
  });
  return partial;
}

// Calls work(block number, bytes) for all blocks of the tensor, on several threads.
template <class Work>
void for_each_block(const Elements& elements, unsigned threads, Work&& work) {
  const std::uint64_t block = elements.block();
  parallel_for((elements.count() + block - 1) / block, threads, [&](std::uint64_t number) {
    const std::uint64_t first = number * block;
    const auto nbytes = static_cast<std::size_t>(std::min(block, elements.count() - first)) * elements.item();
    if (const std::byte* data = elements.in_place()) return work(number, Bytes(data + first * elements.item(), nbytes));
    std::vector<std::byte> bytes(nbytes);
    elements.read(first, bytes);
    work(number, Bytes(bytes));
  });
}

void count_bins(const double* values, std::size_t count, const Histogram& histogram, std::vector<std::uint64_t>& bins) {
  const Scale scale(histogram.low, histogram.high);
  for (std::size_t i = 0; i < count; ++i) ++bins[scale.part(values[i], bins.size())];
}

Histogram make_histogram(const Tensor& tensor, const Elements& elements, Histogram histogram, unsigned bins,
                         unsigned threads) {
  const std::uint64_t blocks = (elements.count() + elements.block() - 1) / elements.block();
  const bool is_complex = info(tensor.dtype).kind == DTypeClass::complex;
  const unsigned crew = threads == 0 ? usable_cores() : threads;
  // One set of bins for each thread, not for each block: there may be many bins.
  std::vector<std::vector<std::uint64_t>> counts(std::min<std::uint64_t>(crew, std::max<std::uint64_t>(blocks, 1)));
  std::vector<std::vector<std::uint64_t>*> free;
  for (auto& each : counts) each.resize(bins), free.push_back(&each);
  std::mutex mutex;
  for_each_block(elements, crew, [&](std::uint64_t, Bytes block) {
    std::vector<std::uint64_t>* mine = nullptr;
    {
      const std::lock_guard lock(mutex);
      mine = free.back();
      free.pop_back();
    }
    Partial ignored;
    decode(tensor.dtype, block, [&](double* values, std::size_t count) {
      if (is_complex) {
        count /= 2;
        for (std::size_t i = 0; i < count; ++i) {
          const double real = values[2 * i], imaginary = values[2 * i + 1];
          const bool is_finite = std::isfinite(real) && std::isfinite(imaginary);
          values[i] = is_finite ? magnitude_of(real, imaginary) : kInfinity;
        }
      }
      count_bins(values, keep_finite(values, count, ignored), histogram, *mine);
    });
    const std::lock_guard lock(mutex);
    free.push_back(mine);
  });
  histogram.counts.assign(bins, 0);
  for (const auto& each : counts) {
    for (unsigned i = 0; i < bins; ++i) histogram.counts[i] += each[i];
  }
  return histogram;
}

// Applies the lazy negation and conjugation to what was found without them.
void apply_flags(const Tensor& tensor, Partial& partial, std::optional<Histogram>& histogram) {
  if (tensor.is_conj) partial.moments.mean_imaginary = -partial.moments.mean_imaginary;
  if (!tensor.is_neg) return;
  partial.moments.mean = -partial.moments.mean;
  partial.moments.mean_imaginary = -partial.moments.mean_imaginary;
  if (info(tensor.dtype).kind == DTypeClass::complex) return;
  std::swap(partial.low, partial.high);
  partial.low = -partial.low, partial.high = -partial.high;
  std::swap(partial.positive, partial.negative);
  if (!histogram) return;
  std::swap(histogram->low, histogram->high);
  histogram->low = -histogram->low, histogram->high = -histogram->high;
  std::reverse(histogram->counts.begin(), histogram->counts.end());
}

void set_range(const Tensor& tensor, const Partial& partial, Statistics& result) {
  const DTypeClass kind = info(tensor.dtype).kind;
  if (result.finite() == 0 || kind == DTypeClass::complex) return;
  if (kind == DTypeClass::floating) {
    result.minimum = partial.low, result.maximum = partial.high;
    return;
  }
  const bool is_signed = partial.low_signed <= partial.high_signed;
  result.minimum = is_signed ? Value(partial.low_signed) : Value(partial.low_unsigned);
  result.maximum = is_signed ? Value(partial.high_signed) : Value(partial.high_unsigned);
}

Partial sum_up_all(const Tensor& tensor, const Elements& elements, unsigned threads, int exponent) {
  std::vector<Partial> partials(static_cast<std::size_t>((elements.count() + elements.block() - 1) / elements.block()));
  for_each_block(elements, threads,
                 [&](std::uint64_t number, Bytes block) { partials[number] = sum_up(tensor.dtype, block, exponent); });
  Partial all;
  for (const Partial& partial : partials) all.join(partial);
  return all;
}

// By which power of two the numbers are to be divided so that no square overflows, and not all of them vanish; 0 for
// nearly all tensors.
int exponent_of(const Partial& all) {
  constexpr int kHarmless = 400;
  const double largest = std::max(std::abs(all.low), std::abs(all.high));
  if (all.moments.count == 0 || largest == 0) return 0;
  const int exponent = std::ilogb(largest);
  return std::abs(exponent) > kHarmless ? exponent : 0;
}

// Mean, deviation and norm, of numbers that were divided by 2 ** exponent.
void set_moments(const Tensor& tensor, const Partial& all, int exponent, Statistics& result) {
  const Moments& found = all.moments;
  const auto count = static_cast<double>(found.count);
  const auto scaled = [exponent](double number) { return std::ldexp(number, exponent); };
  result.standard_deviation =
      found.count > 1 ? scaled(std::sqrt(found.squares / (count - 1))) : std::numeric_limits<double>::quiet_NaN();
  const double mean_square = found.mean * found.mean + found.mean_imaginary * found.mean_imaginary;
  result.norm = scaled(std::sqrt(found.squares + count * mean_square));
  if (found.count == 0) return;
  const bool is_complex = info(tensor.dtype).kind == DTypeClass::complex;
  result.mean = is_complex ? Value(std::complex<double>(scaled(found.mean), scaled(found.mean_imaginary)))
                           : Value(exponent == 0 ? found.mean : std::clamp(scaled(found.mean), all.low, all.high));
}

}  // namespace

Statistics statistics(const Tensor& tensor, const StatisticsOptions& options) {
  if (options.bins > kMaxBins) {
    throw Error(Code::invalid_argument, fmt::format("{} bins asked for, the limit is {}", options.bins, kMaxBins));
  }
  const Elements elements(tensor);
  Partial all = sum_up_all(tensor, elements, options.threads, 0);
  const int exponent = exponent_of(all);
  if (exponent != 0) all.moments = sum_up_all(tensor, elements, options.threads, exponent).moments;

  Statistics result;
  if (options.bins > 0 && all.moments.count > 0) {
    result.histogram = make_histogram(tensor, elements, {all.low, all.high, {}}, options.bins, options.threads);
  }
  apply_flags(tensor, all, result.histogram);
  result.count = all.moments.count + all.nan + all.positive + all.negative;
  result.nan = all.nan, result.positive_infinity = all.positive, result.negative_infinity = all.negative;
  result.zero = all.zero;
  set_range(tensor, all, result);
  set_moments(tensor, all, exponent, result);
  return result;
}

}  // namespace torchkeep
