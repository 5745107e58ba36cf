// SPDX-License-Identifier: BSD-3-Clause
// Integer arithmetic that cannot wrap: sizes read from a file are multiplied and added with these.
#pragma once

#include <concepts>
#include <optional>

namespace torchkeep {

/// a + b, or nothing when it does not fit.
template <std::integral T>
[[nodiscard]] constexpr std::optional<T> checked_add(T a, T b) noexcept {
  T sum{};
  if (__builtin_add_overflow(a, b, &sum)) return std::nullopt;
  return sum;
}

/// a * b, or nothing when it does not fit.
template <std::integral T>
[[nodiscard]] constexpr std::optional<T> checked_mul(T a, T b) noexcept {
  T product{};
  if (__builtin_mul_overflow(a, b, &product)) return std::nullopt;
  return product;
}

}  // namespace torchkeep
