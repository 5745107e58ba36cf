// SPDX-License-Identifier: BSD-3-Clause
// Python's arithmetic on int and float: types, signs and complaints. The expected values are CPython 3.11's.
#include "arithmetic.h"

#include <cfenv>
#include <cmath>
#include <gtest/gtest.h>
#include <limits>

#include <torchkeep/base/error.h>

namespace torchkeep::lr_scheduler {
namespace {

const double infinity = std::numeric_limits<double>::infinity();
constexpr std::int64_t largest = std::numeric_limits<std::int64_t>::max();

std::string complaint(const std::function<void()>& work) {
  try {
    work();
  } catch (const Error& error) {
    return error.message();
  }
  return "";
}

TEST(Number, KeepsIntAndFloatApart) {
  EXPECT_FALSE(Number(1) == Number(1.0));
  EXPECT_FALSE(Number(0.0) == Number(-0.0));
  EXPECT_TRUE(Number(std::nan("")) == Number(std::nan("")));
  EXPECT_TRUE(equals(1, 1.0));
}

TEST(Number, PrintsAsPythonDoes) {
  EXPECT_EQ(Number(1).to_string(), "1");
  EXPECT_EQ(Number(1.0).to_string(), "1.0");
  EXPECT_EQ(Number(-0.0).to_string(), "-0.0");
  EXPECT_EQ(Number(0.1).to_string(), "0.1");
  EXPECT_EQ(Number(1e-8).to_string(), "1e-08");
  EXPECT_EQ(Number(1e16).to_string(), "1e+16");
  EXPECT_EQ(Number(1234567890123456.0).to_string(), "1234567890123456.0");
  EXPECT_EQ(Number(-infinity).to_string(), "-inf");
  EXPECT_EQ(Number(-std::nan("")).to_string(), "nan");
}

TEST(Number, ComesBackFromAValueAsTheSameType) {
  EXPECT_EQ(Value(Number(3)).to<Number>(), Number(3));
  EXPECT_EQ(Value(Number(3.0)).to<Number>(), Number(3.0));
  EXPECT_THROW(Value(true).to<Number>(), Error);
  EXPECT_THROW(Value("3").to<Number>(), Error);
  EXPECT_THROW(Value(Integer::from_decimal("9223372036854775808")).to<Number>(), Error);
}

TEST(Arithmetic, StaysIntegerAsLongAsPythonDoes) {
  EXPECT_EQ(Number(2) + 3, Number(5));
  EXPECT_EQ(Number(2) * 3.0, Number(6.0));
  EXPECT_EQ(Number(6) / 3, Number(2.0));
  EXPECT_EQ(power(2, 10), Number(1024));
  EXPECT_EQ(power(2, -1), Number(0.5));
  EXPECT_EQ(power(2, 3.0), Number(8.0));
  EXPECT_EQ(-Number(3), Number(-3));
  EXPECT_EQ(minimum(1, 1.0), Number(1));
  EXPECT_EQ(maximum(0, 0.0), Number(0));
}

TEST(Arithmetic, DividesTowardsMinusInfinity) {
  EXPECT_EQ(Number(-1) % 3, Number(2));
  EXPECT_EQ(Number(1) % -3, Number(-2));
  EXPECT_EQ(Number(-6) % 3, Number(0));
  EXPECT_EQ(Number(-1.5) % 2, Number(0.5));
  EXPECT_EQ(Number(4.0) % -2, Number(-0.0));
  EXPECT_EQ(Number(5) % -infinity, Number(-infinity));
  EXPECT_EQ(floor_divide(-7, 2), Number(-4));
  EXPECT_EQ(floor_divide(7, -2), Number(-4));
  EXPECT_EQ(floor_divide(-7.5, 2), Number(-4.0));
  EXPECT_EQ(floor_divide(-0.0, 2), Number(-0.0));
  EXPECT_EQ(floor_divide(1, 0.1), Number(9.0));
  EXPECT_EQ(Number(std::numeric_limits<std::int64_t>::min()) % -1, Number(0));
}

TEST(Arithmetic, RaisesToPowersAsPythonDoes) {
  EXPECT_EQ(power(-2.0, 3), Number(-8.0));
  EXPECT_EQ(power(-2.0, 2), Number(4.0));
  EXPECT_EQ(power(-1.0, 1e300), Number(1.0));
  EXPECT_EQ(power(std::nan(""), 0), Number(1.0));
  EXPECT_EQ(power(1.0, std::nan("")), Number(1.0));
  EXPECT_EQ(power(-0.0, 3), Number(-0.0));
  EXPECT_EQ(power(0.5, 2000), Number(0.0));
  EXPECT_EQ(power(infinity, -1), Number(0.0));
  EXPECT_EQ(power(-infinity, 3), Number(-infinity));
  EXPECT_EQ(power(3, 39), Number(4052555153018976267));
}

TEST(Arithmetic, ComplainsAsPythonDoes) {
  EXPECT_EQ(complaint([] { Number(1) / 0; }), "ZeroDivisionError: division by zero");
  EXPECT_EQ(complaint([] { Number(1.0) / 0; }), "ZeroDivisionError: float division by zero");
  EXPECT_EQ(complaint([] { Number(1) % 0; }), "ZeroDivisionError: integer modulo by zero");
  EXPECT_EQ(complaint([] { Number(1.0) % 0; }), "ZeroDivisionError: float modulo");
  EXPECT_EQ(complaint([] { floor_divide(1, 0); }), "ZeroDivisionError: integer division or modulo by zero");
  EXPECT_EQ(complaint([] { floor_divide(1, 0.0); }), "ZeroDivisionError: float floor division by zero");
  EXPECT_EQ(complaint([] { power(0, -1); }), "ZeroDivisionError: 0.0 cannot be raised to a negative power");
  EXPECT_EQ(complaint([] { power(10.0, 400); }), "OverflowError: (34, 'Numerical result out of range')");
  EXPECT_EQ(complaint([] { cosine(infinity); }), "ValueError: math domain error");
  EXPECT_EQ(complaint([] { logarithm(0, 2); }), "ValueError: math domain error");
  EXPECT_EQ(complaint([] { floor_to_int(std::nan("")); }), "ValueError: cannot convert float NaN to integer");
  EXPECT_EQ(complaint([] { floor_to_int(infinity); }), "OverflowError: cannot convert float infinity to integer");
}

TEST(Arithmetic, SaysSoWhenPythonWouldGoOnWithWhatADoubleCannotHold) {
  for (const auto& work : std::vector<std::function<void()>>{
           [] { Number(largest) + 1; }, [] { Number(-largest) - 2; }, [] { Number(largest) * 2; }, [] { power(3, 41); },
           [] { -Number(std::numeric_limits<std::int64_t>::min()); }, [] { Number(largest) / 3; },
           [] { power(-1.5, 0.5); }, [] { floor_to_int(1e30); }}) {
    try {
      work();
      ADD_FAILURE() << "not refused";
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), Code::unsupported) << error.what();
    }
  }
}

TEST(Arithmetic, ComparesIntegersWithFloatsExactly) {
  EXPECT_TRUE(Number(largest) < Number(0x1p63));
  EXPECT_TRUE(Number((std::int64_t{1} << 53) + 1) > Number(0x1p53));
  EXPECT_FALSE(Number(std::nan("")) < 1);
  EXPECT_FALSE(Number(std::nan("")) >= 1);
  EXPECT_FALSE(Number(1) <= std::nan(""));
}

TEST(PlainArithmetic, GivesTheThreadItsSettingsBack) {
  std::fesetround(FE_UPWARD);
  {
    const PlainArithmetic arithmetic;
    EXPECT_EQ(std::fegetround(), FE_TONEAREST);
  }
  EXPECT_EQ(std::fegetround(), FE_UPWARD);
  std::fesetround(FE_TONEAREST);
}

}  // namespace
}  // namespace torchkeep::lr_scheduler
