// SPDX-License-Identifier: BSD-3-Clause
// Statistics of every dtype. (Against PyTorch's own numbers: tests/cli.)
#include <bit>
#include <cmath>
#include <gtest/gtest.h>
#include <limits>
#include <random>

#include <torchkeep/state/statistics.h>

#include "support/expect_error.h"

namespace torchkeep {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

template <class T>
Tensor bytes_as(DType dtype, std::vector<T> bits, std::int64_t numel) {
  return Tensor::from_bytes(dtype, {numel}, std::as_bytes(std::span(bits)));
}

TEST(Statistics, OfAFewFloats) {
  const Statistics found = statistics(Tensor::of<float>({5}, {-1, 0, 2, -0.0f, 4}));
  EXPECT_EQ(found.count, 5u);
  EXPECT_EQ(found.zero, 2u);
  EXPECT_EQ(found.minimum, Value(-1.0));
  EXPECT_EQ(found.maximum, Value(4.0));
  EXPECT_EQ(found.mean, Value(1.0));
  EXPECT_DOUBLE_EQ(found.standard_deviation, 2.0);
  EXPECT_DOUBLE_EQ(found.norm, std::sqrt(21.0));
  EXPECT_FALSE(found.histogram);
}

TEST(Statistics, CountsWhatIsNotFiniteAndLeavesItOut) {
  const double nan = std::numeric_limits<double>::quiet_NaN();
  const Statistics found = statistics(Tensor::of<double>({7}, {nan, kInfinity, 3, -kInfinity, -kInfinity, nan, nan}));
  EXPECT_EQ(found.nan, 3u);
  EXPECT_EQ(found.positive_infinity, 1u);
  EXPECT_EQ(found.negative_infinity, 2u);
  EXPECT_EQ(found.finite(), 1u);
  EXPECT_EQ(found.minimum, Value(3.0));
  EXPECT_TRUE(std::isnan(found.standard_deviation));
}

TEST(Statistics, OfNothingHasNoRange) {
  const Statistics found = statistics(Tensor::of<float>({0}, std::initializer_list<float>{}), {.bins = 4});
  EXPECT_EQ(found.count, 0u);
  EXPECT_TRUE(found.minimum.is_none());
  EXPECT_TRUE(found.mean.is_none());
  EXPECT_EQ(found.norm, 0);
  EXPECT_FALSE(found.histogram);
}

TEST(Statistics, OfIntegersKeepTheirRangeExact) {
  const std::int64_t large = (std::int64_t{1} << 60) + 1;
  Statistics found = statistics(Tensor::of<std::int64_t>({2}, {-large, large}));
  EXPECT_EQ(found.minimum, Value(-large));
  EXPECT_EQ(found.maximum, Value(large));
  const std::uint64_t top = std::numeric_limits<std::uint64_t>::max();
  found = statistics(Tensor::of<std::uint64_t>({2}, {top, top - 1}));
  EXPECT_EQ(found.minimum, Value(top - 1));
  EXPECT_EQ(found.maximum, Value(top));
  found = statistics(Tensor::of<bool>({3}, {true, false, true}));
  EXPECT_EQ(found.maximum, Value(1));
  EXPECT_EQ(found.zero, 1u);
}

TEST(Statistics, DecodeHalvesAndBrainFloats) {
  Statistics found = statistics(bytes_as<std::uint16_t>(DType::float16, {0x3c00, 0xc000, 0x0001, 0x7bff}, 4));
  EXPECT_EQ(found.minimum, Value(-2.0));
  EXPECT_EQ(found.maximum, Value(65504.0));
  EXPECT_EQ(statistics(bytes_as<std::uint16_t>(DType::float16, {0x0001}, 1)).maximum, Value(std::ldexp(1.0, -24)));
  EXPECT_EQ(statistics(bytes_as<std::uint16_t>(DType::float16, {0x7c00, 0xfc00, 0x7e01}, 3)).finite(), 0u);
  found = statistics(bytes_as<std::uint16_t>(DType::bfloat16, {0x3f80, 0xc2f7}, 2));
  EXPECT_EQ(found.minimum, Value(-123.5));
  EXPECT_EQ(found.maximum, Value(1.0));
}

TEST(Statistics, DecodeTheFloatsOfEightAndFourBits) {
  const auto range = [](DType dtype, std::vector<std::uint8_t> bits) {
    const auto count = static_cast<std::int64_t>(bits.size());
    return statistics(bytes_as(dtype, std::move(bits), count));
  };
  EXPECT_EQ(range(DType::float8_e4m3fn, {0x7e}).maximum, Value(448.0));
  EXPECT_EQ(range(DType::float8_e4m3fn, {0x7f, 0xff}).nan, 2u);
  EXPECT_EQ(range(DType::float8_e4m3fnuz, {0x7f}).maximum, Value(240.0));
  EXPECT_EQ(range(DType::float8_e4m3fnuz, {0x80}).nan, 1u);
  EXPECT_EQ(range(DType::float8_e5m2, {0x7b}).maximum, Value(57344.0));
  EXPECT_EQ(range(DType::float8_e5m2, {0x7c, 0xfc, 0x7d}).positive_infinity, 1u);
  EXPECT_EQ(range(DType::float8_e5m2fnuz, {0x7f}).maximum, Value(57344.0));
  EXPECT_EQ(range(DType::float8_e8m0fnu, {127, 130, 0}).minimum, Value(std::ldexp(1.0, -127)));
  EXPECT_EQ(range(DType::float8_e8m0fnu, {127, 130, 255}).maximum, Value(8.0));
  const Statistics pairs = range(DType::float4_e2m1fn_x2, {0xf7, 0x10});  // 6, -6, 0, 0.5
  EXPECT_EQ(pairs.count, 4u);
  EXPECT_EQ(pairs.minimum, Value(-6.0));
  EXPECT_EQ(pairs.mean, Value(0.125));
}

TEST(Statistics, OfComplexNumbersHaveAMeanAndANormButNoRange) {
  const Tensor tensor = Tensor::of<std::complex<float>>({3}, {{1, 2}, {3, -4}, {0, 0}});
  const Statistics found = statistics(tensor, {.bins = 5});
  EXPECT_EQ(found.count, 3u);
  EXPECT_EQ(found.zero, 1u);
  EXPECT_TRUE(found.minimum.is_none());
  EXPECT_NEAR(found.mean.as_complex().imag(), -2.0 / 3, 1e-15);
  EXPECT_DOUBLE_EQ(found.norm, std::sqrt(30.0));
  EXPECT_EQ(found.histogram->high, 5);
  EXPECT_EQ(found.histogram->counts, (std::vector<std::uint64_t>{1, 0, 1, 0, 1}));
  Tensor conjugate = tensor;
  conjugate.is_conj = true;
  EXPECT_NEAR(statistics(conjugate).mean.as_complex().imag(), 2.0 / 3, 1e-15);
}

TEST(Statistics, ApplyTheNegationBit) {
  Tensor tensor = Tensor::of<float>({4}, {1, 2, 3, std::numeric_limits<float>::infinity()});
  tensor.is_neg = true;
  const Statistics found = statistics(tensor, {.bins = 3});
  EXPECT_EQ(found.minimum, Value(-3.0));
  EXPECT_EQ(found.maximum, Value(-1.0));
  EXPECT_EQ(found.mean, Value(-2.0));
  EXPECT_EQ(found.negative_infinity, 1u);
  EXPECT_EQ(found.histogram->low, -3);
  EXPECT_EQ(found.histogram->high, -1);
}

TEST(Statistics, OfTheLargestAndTheSmallestNumbersDoNotOverflowOrVanish) {
  for (const double unit : {1.0, 0x1p1022, 0x1p-1040}) {
    const Statistics found = statistics(Tensor::of<double>({4}, {-unit, unit, unit, unit}), {.bins = 4});
    EXPECT_EQ(found.minimum, Value(-unit));
    EXPECT_EQ(found.maximum, Value(unit));
    EXPECT_EQ(found.mean, Value(unit / 2));
    EXPECT_EQ(found.standard_deviation, unit);
    EXPECT_EQ(found.norm, unit * 2);
    EXPECT_EQ(found.histogram->counts, (std::vector<std::uint64_t>{1, 0, 0, 3}));
  }
  constexpr double kLargest = std::numeric_limits<double>::max();
  const Statistics largest = statistics(Tensor::of<double>({3}, {kLargest, kLargest, kLargest}), {.bins = 2});
  EXPECT_EQ(largest.mean, Value(kLargest));
  EXPECT_EQ(largest.standard_deviation, 0);
  const std::complex<double> corner(kLargest, -kLargest);
  const Statistics complex = statistics(Tensor::of<std::complex<double>>({2}, {corner, corner}), {.bins = 2});
  EXPECT_EQ(complex.mean, Value(corner));
  EXPECT_EQ(complex.histogram->counts[0] + complex.histogram->counts[1], 2U);
}

TEST(Statistics, HistogramCountsEveryFiniteNumberOnce) {
  const Tensor tensor = Tensor::of<float>({6}, {0, 0.5f, 1, 2, 4, std::numeric_limits<float>::quiet_NaN()});
  const Histogram histogram = *statistics(tensor, {.bins = 4}).histogram;
  EXPECT_EQ(histogram.low, 0);
  EXPECT_EQ(histogram.high, 4);
  EXPECT_EQ(histogram.counts, (std::vector<std::uint64_t>{2, 1, 1, 1}));
  const Tensor wide = Tensor::of<double>({2}, {-1.7e308, 1.7e308});
  EXPECT_EQ(statistics(wide, {.bins = 2}).histogram->counts, (std::vector<std::uint64_t>{1, 1}));
  const Tensor flat = Tensor::of<float>({3}, {7, 7, 7});
  EXPECT_EQ(statistics(flat, {.bins = 2}).histogram->counts, (std::vector<std::uint64_t>{3, 0}));
  EXPECT_ERROR(statistics(tensor, {.bins = 1'000'001}), Code::invalid_argument, "limit is 1000000");
}

TEST(Statistics, DoNotDependOnTheNumberOfThreads) {
  std::mt19937 random(3);
  std::normal_distribution<float> normal(5, 2);
  std::vector<float> values(1'500'000);
  for (float& value : values) value = normal(random);
  const Tensor tensor = Tensor::of<float>({1500, 1000}, values);
  const Statistics one = statistics(tensor, {.bins = 30, .threads = 1});
  EXPECT_NEAR(one.mean.as_real(), 5, 0.02);
  EXPECT_NEAR(one.standard_deviation, 2, 0.02);
  for (const unsigned threads : {2u, 5u}) {
    const Statistics many = statistics(tensor, {.bins = 30, .threads = threads});
    EXPECT_EQ(many.mean, one.mean);
    EXPECT_EQ(std::bit_cast<std::uint64_t>(many.standard_deviation),
              std::bit_cast<std::uint64_t>(one.standard_deviation));
    EXPECT_EQ(std::bit_cast<std::uint64_t>(many.norm), std::bit_cast<std::uint64_t>(one.norm));
    EXPECT_EQ(many.histogram->counts, one.histogram->counts);
  }
}

}  // namespace
}  // namespace torchkeep
