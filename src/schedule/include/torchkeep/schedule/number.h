// SPDX-License-Identifier: BSD-3-Clause
// A learning rate or other number of a scheduler, which stays an int where Python keeps an int.
#pragma once

#include <concepts>
#include <cstdint>
#include <string>
#include <vector>

#include <torchkeep/state/value.h>

namespace torchkeep::lr_scheduler {

/// Python's int (64 bits) or float. Which of the two it is shows in a state dict, so it is kept: `.gamma = 1` is an int
/// and `.gamma = 1.0` a float, as in Python. Offers no arithmetic: that is done where no compiler flag of the user's
/// program reaches it.
class Number {
 public:
  Number() = delete;
  template <std::integral T>
  requires(!std::same_as<T, bool>) Number(T value)
  noexcept : integer_(static_cast<std::int64_t>(value)), is_integer_(true) {}  // NOLINT: implicit
  template <std::floating_point T>
  Number(T value) noexcept : real_(static_cast<double>(value)) {}  // NOLINT: implicit

  bool is_integer() const noexcept { return is_integer_; }
  /// The nearest double.
  double to_double() const noexcept { return is_integer_ ? static_cast<double>(integer_) : real_; }
  /// The value of an int; 0 for a float.
  std::int64_t integer() const noexcept { return integer_; }

  /// Same type and same bits: 1 is not 1.0, 0.0 is not -0.0, a NaN equals itself.
  bool operator==(const Number& other) const noexcept;

  /// As Python prints it: "1", "1.0", "1e-08".
  std::string to_string() const;

 private:
  double real_ = 0.0;
  std::int64_t integer_ = 0;
  bool is_integer_ = false;
};

using Numbers = std::vector<Number>;

}  // namespace torchkeep::lr_scheduler

namespace torchkeep {

/// An int or a float. Refuses bool, an int that does not fit into 64 bits (unsupported), and a tensor (unsupported:
/// LibTorch keeps learning rates as double).
template <>
struct Convert<lr_scheduler::Number> {
  static Value to_value(const lr_scheduler::Number& number);
  static lr_scheduler::Number from_value(const Value& value);
};

}  // namespace torchkeep
