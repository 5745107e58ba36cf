// SPDX-License-Identifier: BSD-3-Clause
// Distances between tensors: bits, ULPs, absolute, relative, cosine.
#include <bit>
#include <cmath>
#include <gtest/gtest.h>
#include <limits>

#include <torchkeep/state/compare.h>

#include "support/expect_error.h"

namespace torchkeep {
namespace {

constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
constexpr float kInfinity = std::numeric_limits<float>::infinity();

TEST(Compare, EqualBitsAreEqualEvenForNan) {
  const Tensor tensor = Tensor::of<float>({4}, {1, kNan, -0.0f, kInfinity});
  const TensorDifference found = compare(tensor, tensor);
  EXPECT_TRUE(found.equal_bits());
  EXPECT_EQ(found.count, 4u);
  EXPECT_EQ(found.max_absolute, 0);
  EXPECT_EQ(found.max_ulps, 0u);
  EXPECT_EQ(found.cosine, 1);
}

TEST(Compare, NeighboursAreOneUlpApart) {
  const auto ulps = [](float a, float b) {
    return *compare(Tensor::of<float>({1}, {a}), Tensor::of<float>({1}, {b})).max_ulps;
  };
  EXPECT_EQ(ulps(1, std::nextafter(1.0f, 2.0f)), 1u);
  EXPECT_EQ(ulps(std::nextafter(0.0f, 1.0f), -std::nextafter(0.0f, 1.0f)), 2u);
  EXPECT_EQ(ulps(std::numeric_limits<float>::max(), kInfinity), 1u);
  EXPECT_EQ(ulps(0.0f, -0.0f), 0u);
}

TEST(Compare, ZerosOfTwoSignsDifferInBitsOnly) {
  const TensorDifference found = compare(Tensor::of<float>({2}, {0, 1}), Tensor::of<float>({2}, {-0.0f, 1}));
  EXPECT_EQ(found.differing, 1u);
  EXPECT_EQ(found.max_absolute, 0);
  EXPECT_EQ(found.max_relative, 0);
  EXPECT_DOUBLE_EQ(found.cosine, 1);
}

TEST(Compare, LargestDistancesOverAllPairs) {
  const TensorDifference found = compare(Tensor::of<double>({3}, {1, 100, 3}), Tensor::of<double>({3}, {1, 101, 1.5}));
  EXPECT_EQ(found.differing, 2u);
  EXPECT_EQ(found.max_absolute, 1.5);
  EXPECT_EQ(found.max_relative, 0.5);
  EXPECT_DOUBLE_EQ(found.cosine, (1 + 10100 + 4.5) / (std::sqrt(10010.0) * std::sqrt(1 + 10201 + 2.25)));
}

TEST(Compare, NanAgainstANumberIsCountedAndLeftOut) {
  const TensorDifference found = compare(Tensor::of<float>({3}, {kNan, 2, 3}), Tensor::of<float>({3}, {1, kNan, 4}));
  EXPECT_EQ(found.differing, 3u);
  EXPECT_EQ(found.nan, 2u);
  EXPECT_EQ(found.max_absolute, 1);
}

TEST(Compare, InfinityAgainstANumberIsInfinitelyFar) {
  const TensorDifference found = compare(Tensor::of<float>({1}, {kInfinity}), Tensor::of<float>({1}, {1}));
  EXPECT_EQ(found.max_absolute, kInfinity);
  EXPECT_EQ(found.max_relative, 1);
}

TEST(Compare, IntegersAreCountedExactly) {
  const std::int64_t low = std::numeric_limits<std::int64_t>::min(), high = std::numeric_limits<std::int64_t>::max();
  const TensorDifference found =
      compare(Tensor::of<std::int64_t>({2}, {low, 5}), Tensor::of<std::int64_t>({2}, {high, 5}));
  EXPECT_EQ(found.max_ulps, std::numeric_limits<std::uint64_t>::max());
  const std::int64_t large = std::int64_t{1} << 53;
  EXPECT_EQ(compare(Tensor::of<std::int64_t>({1}, {large}), Tensor::of<std::int64_t>({1}, {large + 1})).max_absolute,
            1);
}

TEST(Compare, ComplexNumbersAreOneNumberEach) {
  const TensorDifference found = compare(Tensor::of<std::complex<double>>({2}, {{3, 4}, {1, 1}}),
                                         Tensor::of<std::complex<double>>({2}, {{0, 0}, {1, 1}}));
  EXPECT_EQ(found.count, 2u);
  EXPECT_EQ(found.differing, 1u);
  EXPECT_EQ(found.max_absolute, 5);
  EXPECT_EQ(found.max_relative, 1);
}

TEST(Compare, PackedHalvesOfABytedAreTwoNumbers) {
  const auto pair = [](std::uint8_t byte) {
    return Tensor::from_bytes(DType::float4_e2m1fn_x2, {1}, std::as_bytes(std::span(&byte, 1)));
  };
  const TensorDifference found = compare(pair(0x72), pair(0x62));  // 1 and 6 against 1 and 4
  EXPECT_EQ(found.count, 2u);
  EXPECT_EQ(found.differing, 1u);
  EXPECT_EQ(found.max_absolute, 2);
  EXPECT_EQ(found.max_ulps, 1u);
}

TEST(Compare, TensorsOfTwoDtypesByValue) {
  const std::uint16_t brain[] = {0x3f80, 0x4000};  // 1, 2
  const Tensor b = Tensor::from_bytes(DType::bfloat16, {2}, std::as_bytes(std::span(brain)));
  EXPECT_TRUE(compare(Tensor::of<float>({2}, {1, 2}), b).equal_bits());
  const TensorDifference found = compare(Tensor::of<float>({2}, {1, 2.5f}), b);
  EXPECT_EQ(found.differing, 1u);
  EXPECT_EQ(found.max_absolute, 0.5);
  EXPECT_FALSE(found.max_ulps);
}

TEST(Compare, LazyNegationAndConjugationAreApplied) {
  const Tensor plus = Tensor::of<float>({2}, {1, -2});
  Tensor minus = Tensor::of<float>({2}, {-1, 2});
  minus.is_neg = true;
  EXPECT_TRUE(compare(plus, minus).equal_bits());
  const Tensor z = Tensor::of<std::complex<float>>({1}, {{1, 2}});
  Tensor conjugate = Tensor::of<std::complex<float>>({1}, {{1, -2}});
  conjugate.is_conj = true;
  EXPECT_TRUE(compare(z, conjugate).equal_bits());
  conjugate.is_neg = true;
  EXPECT_EQ(compare(z, conjugate).max_absolute, std::hypot(2.0, 4.0));
}

TEST(Compare, StridesDoNotMatter) {
  const Tensor a = Tensor::of<float>({2, 3}, {1, 2, 3, 4, 5, 6});
  Tensor b = Tensor::of<float>({3, 2}, {1, 4, 2, 5, 3, 6});
  b.sizes = {2, 3}, b.strides = {1, 2};
  EXPECT_TRUE(compare(a, b).equal_bits());
  EXPECT_TRUE(equal_elements(a, b));
  EXPECT_FALSE(equal_elements(a, Tensor::of<float>({2, 3}, {1, 2, 3, 4, 5, 7})));
}

TEST(Compare, DoesNotDependOnTheNumberOfThreads) {
  std::vector<float> x(700'000), y(x.size());
  for (std::size_t i = 0; i < x.size(); ++i)
    x[i] = std::sin(static_cast<float>(i)), y[i] = x[i] + 1e-3f * std::cos(x[i]);
  const Tensor a = Tensor::of<float>({700'000}, x), b = Tensor::of<float>({700'000}, y);
  const TensorDifference one = compare(a, b, {.threads = 1});
  const TensorDifference four = compare(a, b, {.threads = 4});
  EXPECT_EQ(std::bit_cast<std::uint64_t>(one.cosine), std::bit_cast<std::uint64_t>(four.cosine));
  EXPECT_EQ(one.differing, four.differing);
  EXPECT_EQ(one.max_ulps, four.max_ulps);
}

TEST(Compare, RefusesWhatHasNoPairs) {
  const Tensor real = Tensor::of<float>({2}, {1, 2});
  EXPECT_ERROR((compare(real, Tensor::of<float>({1, 2}, {1, 2}))), Code::mismatch, "shape [2] with shape [1, 2]");
  EXPECT_ERROR((compare(real, Tensor::of<std::complex<float>>({2}, {{1, 0}, {2, 0}}))), Code::unsupported, "complex64");
  EXPECT_ERROR((equal_elements(real, Tensor::of<double>({2}, {1, 2}))), Code::mismatch, "float32 with float64");
}

}  // namespace
}  // namespace torchkeep
