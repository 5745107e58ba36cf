// SPDX-License-Identifier: BSD-3-Clause
// Python's int: any size, exact.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace torchkeep {

/// An integer of any size. Small ones (64 bits) cost no allocation.
class Integer {
 public:
  Integer(std::int64_t value = 0) noexcept : small_(value) {}  // NOLINT: an int is an Integer
  /// From unsigned, which may need 65 bits in two's complement.
  static Integer from_unsigned(std::uint64_t value);
  /// From little-endian two's complement of any length, as pickle's LONG1 stores it (empty is 0).
  static Integer from_twos_complement(std::string_view bytes);
  /// From decimal digits with an optional sign; throws Error (invalid_argument) for anything else.
  static Integer from_decimal(std::string_view digits);

  /// The value, when 64 bits hold it.
  std::optional<std::int64_t> to_int64() const noexcept;
  /// The value, when it is not negative and 64 bits hold it.
  std::optional<std::uint64_t> to_uint64() const noexcept;
  /// The nearest double (infinite when too large).
  double to_double() const;
  bool is_negative() const noexcept;
  /// Shortest little-endian two's complement; empty for 0.
  std::string to_twos_complement() const;
  /// Decimal digits; of a number longer than 1,720 bytes (about 4,140 digits) only "an integer of N bytes", for the
  /// digits would take quadratic time.
  std::string to_decimal() const;

  bool operator==(const Integer&) const = default;

 private:
  std::int64_t small_ = 0;
  std::string big_;  // shortest two's complement, only when 64 bits do not hold the value
};

}  // namespace torchkeep
