// SPDX-License-Identifier: BSD-3-Clause
// Checked arithmetic: every pair at the edges gives the true result or nothing.
#include <array>
#include <cstdint>
#include <gtest/gtest.h>
#include <limits>

#include <torchkeep/base/checked.h>

namespace torchkeep {
namespace {

// Eight bits are few enough to try every pair against arithmetic in int, which cannot wrap there.
template <class T>
void expect_true_results() {
  constexpr int low = std::numeric_limits<T>::min();
  constexpr int high = std::numeric_limits<T>::max();
  const auto expected = [](int exact) -> std::optional<T> {
    if (exact < low || exact > high) return std::nullopt;
    return static_cast<T>(exact);
  };
  for (int a = low; a <= high; ++a) {
    for (int b = low; b <= high; ++b) {
      ASSERT_EQ(checked_add(static_cast<T>(a), static_cast<T>(b)), expected(a + b)) << a << " + " << b;
      ASSERT_EQ(checked_mul(static_cast<T>(a), static_cast<T>(b)), expected(a * b)) << a << " * " << b;
    }
  }
}

TEST(Checked, GivesTheTrueResultOrNothingForEveryPairOfBytes) {
  expect_true_results<std::uint8_t>();
  expect_true_results<std::int8_t>();
}

TEST(Checked, KeepsTheLargestSizeAndRefusesOneMore) {
  constexpr auto max = std::numeric_limits<std::uint64_t>::max();
  EXPECT_EQ(checked_add<std::uint64_t>(max - 1, 1), max);
  EXPECT_EQ(checked_add<std::uint64_t>(max, 1), std::nullopt);
  EXPECT_EQ(checked_mul<std::uint64_t>(std::uint64_t{1} << 32, (std::uint64_t{1} << 32) - 1), max - 0xFFFF'FFFF);
  EXPECT_EQ(checked_mul<std::uint64_t>(std::uint64_t{1} << 32, std::uint64_t{1} << 32), std::nullopt);
}

TEST(Checked, RefusesToNegateTheSmallestSigned) {
  constexpr auto min = std::numeric_limits<std::int64_t>::min();
  EXPECT_EQ(checked_mul<std::int64_t>(min, -1), std::nullopt);
  EXPECT_EQ(checked_mul<std::int64_t>(min, 0), 0);
}

TEST(Checked, IsUsableWhereConstantsAreRequired) {
  static_assert(checked_mul(2, 3) == 6);
  static_assert(!checked_add<std::uint8_t>(255, 1));
}

}  // namespace
}  // namespace torchkeep
