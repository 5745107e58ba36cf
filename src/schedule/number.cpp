// SPDX-License-Identifier: BSD-3-Clause
// Number: comparison, text and the way into a Value and back.
#include <bit>
#include <cmath>
#include <fmt/format.h>

#include <torchkeep/schedule/number.h>

namespace torchkeep {
namespace lr_scheduler {

bool Number::operator==(const Number& other) const noexcept {
  if (is_integer_ != other.is_integer_) return false;
  return is_integer_ ? integer_ == other.integer_
                     : std::bit_cast<std::uint64_t>(real_) == std::bit_cast<std::uint64_t>(other.real_);
}

std::string Number::to_string() const {
  if (is_integer_) return std::to_string(integer_);
  if (std::isnan(real_)) return "nan";
  std::string text = fmt::format("{}", real_);
  const bool looks_like_an_int = text.find_first_not_of("-0123456789") == std::string::npos;
  return looks_like_an_int ? text + ".0" : text;
}

}  // namespace lr_scheduler

Value Convert<lr_scheduler::Number>::to_value(const lr_scheduler::Number& number) {
  return number.is_integer() ? Value(number.integer()) : Value(number.to_double());
}

lr_scheduler::Number Convert<lr_scheduler::Number>::from_value(const Value& value) {
  if (value.is(Kind::real)) return value.as_real();
  if (value.is(Kind::integer)) {
    const auto integer = value.as_integer().to_int64();
    if (!integer) {
      value.fail(Code::unsupported, fmt::format("an int of 64 bits is expected, found {}; store a float instead",
                                                value.as_integer().to_decimal()));
    }
    return *integer;
  }
  if (value.is(Kind::tensor)) {
    value.fail(Code::unsupported,
               "a learning rate kept as a tensor; LibTorch keeps a double, so store it as a number (lr=lr.item())");
  }
  value.fail_kind("int or float");
}

}  // namespace torchkeep
