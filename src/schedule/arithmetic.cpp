// SPDX-License-Identifier: BSD-3-Clause
// Python's arithmetic, after CPython 3.11's Objects/longobject.c, floatobject.c and Modules/mathmodule.c.
#include "arithmetic.h"

#include <cfenv>
#include <cfloat>
#include <fmt/format.h>
#include <math.h>  // NOLINT: ::pow and ::cos are the libm functions; std::pow of two ints is a builtin in libstdc++
#include <new>
#include <string>

#include <torchkeep/base/checked.h>
#include <torchkeep/base/error.h>

#if defined(__FAST_MATH__) || (defined(__FINITE_MATH_ONLY__) && __FINITE_MATH_ONLY__)
#error "torchkeep's schedules need IEEE arithmetic: keep the compile options of src/schedule/CMakeLists.txt"
#endif
static_assert(FLT_EVAL_METHOD == 0, "torchkeep's schedules need double arithmetic without excess precision");
static_assert(0.1 == 0x1.999999999999ap-4, "torchkeep's schedules need double constants");

namespace torchkeep::lr_scheduler {
namespace {

[[noreturn]] void raise(const char* words) {
  throw Error(Code::invalid_argument, words);
}

[[noreturn]] void too_large(std::string_view operation) {
  throw Error(
      Code::unsupported,
      fmt::format("{} leaves the 64-bit integers; Python would go on with a larger int. Use a float", operation));
}

bool integers(const Number& a, const Number& b) {
  return a.is_integer() && b.is_integer();
}

Number checked(const std::optional<std::int64_t>& result, std::string_view operation) {
  if (!result) too_large(operation);
  return *result;
}

// -1, 0, 1, or 2 when one is a NaN. long double holds every int64 and every double.
int compare(const Number& a, const Number& b) {
  if (integers(a, b)) return a.integer() < b.integer() ? -1 : a.integer() > b.integer();
  const long double x = a.is_integer() ? static_cast<long double>(a.integer()) : a.to_double();
  const long double y = b.is_integer() ? static_cast<long double>(b.integer()) : b.to_double();
  if (x < y) return -1;
  if (x > y) return 1;
  return x == y ? 0 : 2;
}

// float_pow: libm's pow for a non-negative base, the sign put back for odd exponents.
double float_power(double base, double exponent) {
  if (exponent == 0.0) return 1.0;
  if (isnan(base)) return base;
  if (isnan(exponent)) return base == 1.0 ? 1.0 : exponent;
  if (isinf(base) || isinf(exponent)) return ::pow(base, exponent);
  if (base == 0.0) {
    if (exponent < 0.0) raise("ZeroDivisionError: 0.0 cannot be raised to a negative power");
    return ::pow(base, exponent);
  }
  bool negate = false;
  if (base < 0.0) {
    if (exponent != ::floor(exponent)) {
      throw Error(Code::unsupported, fmt::format("{} ** {} is a complex number in Python; a learning rate is real",
                                                 Number(base).to_string(), Number(exponent).to_string()));
    }
    negate = ::fmod(::fabs(exponent), 2.0) == 1.0;
    base = -base;
  }
  const double result = base == 1.0 ? 1.0 : ::pow(base, exponent);
  if (isinf(result)) raise("OverflowError: (34, 'Numerical result out of range')");
  return negate ? -result : result;
}

Number integer_power(std::int64_t base, std::int64_t exponent) {
  std::optional<std::int64_t> result = 1;
  // The squares above the last needed bit may overflow, so they are only checked when used.
  std::optional<std::int64_t> square = base;
  for (; exponent > 0; exponent >>= 1) {
    if (exponent & 1) result = result && square ? checked_mul(*result, *square) : std::nullopt;
    square = square ? checked_mul(*square, *square) : std::nullopt;
  }
  return checked(result, "int ** int");
}

std::int64_t to_int(const Number& number, double (*round)(double)) {
  if (number.is_integer()) return number.integer();
  const double value = round(number.to_double());
  if (isnan(value)) raise("ValueError: cannot convert float NaN to integer");
  if (isinf(value)) raise("OverflowError: cannot convert float infinity to integer");
  if (value < -0x1p63 || value >= 0x1p63) too_large("float to int");
  return static_cast<std::int64_t>(value);
}

double log_of(const Number& number) {
  if (number.to_double() <= 0.0) raise("ValueError: math domain error");
  return ::log(number.to_double());
}

}  // namespace

const Number pi = 0x1.921fb54442d18p+1;

Number operator-(const Number& a) {
  if (a.is_integer()) return checked(checked_mul<std::int64_t>(a.integer(), -1), "-int");
  return -a.to_double();
}

Number operator+(const Number& a, const Number& b) {
  if (integers(a, b)) return checked(checked_add(a.integer(), b.integer()), "int + int");
  return a.to_double() + b.to_double();
}

Number operator-(const Number& a, const Number& b) {
  if (integers(a, b)) {
    std::int64_t difference = 0;
    if (__builtin_sub_overflow(a.integer(), b.integer(), &difference)) too_large("int - int");
    return difference;
  }
  return a.to_double() - b.to_double();
}

Number operator*(const Number& a, const Number& b) {
  if (integers(a, b)) return checked(checked_mul(a.integer(), b.integer()), "int * int");
  return a.to_double() * b.to_double();
}

Number operator/(const Number& a, const Number& b) {
  if (b.to_double() == 0.0) {
    raise(integers(a, b) ? "ZeroDivisionError: division by zero" : "ZeroDivisionError: float division by zero");
  }
  if (integers(a, b)) {
    // Below 2**53 both convert exactly, so the quotient is the correctly rounded one of int.__truediv__.
    constexpr std::int64_t exact = std::int64_t{1} << 53;
    if (a.integer() > exact || a.integer() < -exact || b.integer() > exact || b.integer() < -exact) {
      throw Error(Code::unsupported, "int / int beyond 2**53; use a float");
    }
  }
  return a.to_double() / b.to_double();
}

Number operator%(const Number& a, const Number& b) {
  if (integers(a, b)) {
    if (b.integer() == 0) raise("ZeroDivisionError: integer modulo by zero");
    if (b.integer() == -1) return 0;
    const std::int64_t remainder = a.integer() % b.integer();
    return remainder != 0 && (remainder < 0) != (b.integer() < 0) ? remainder + b.integer() : remainder;
  }
  const double divisor = b.to_double();
  if (divisor == 0.0) raise("ZeroDivisionError: float modulo");
  double remainder = ::fmod(a.to_double(), divisor);
  if (remainder == 0.0) return ::copysign(0.0, divisor);
  if ((divisor < 0.0) != (remainder < 0.0)) remainder += divisor;
  return remainder;
}

Number floor_divide(const Number& a, const Number& b) {
  if (integers(a, b)) {
    if (b.integer() == 0) raise("ZeroDivisionError: integer division or modulo by zero");
    if (b.integer() == -1) return -a;
    const std::int64_t quotient = a.integer() / b.integer();
    return a.integer() % b.integer() != 0 && (a.integer() < 0) != (b.integer() < 0) ? quotient - 1 : quotient;
  }
  const double x = a.to_double();
  const double y = b.to_double();
  if (y == 0.0) raise("ZeroDivisionError: float floor division by zero");
  const double remainder = ::fmod(x, y);
  double quotient = (x - remainder) / y;
  if (remainder != 0.0 && (y < 0.0) != (remainder < 0.0)) quotient -= 1.0;
  if (quotient == 0.0) return ::copysign(0.0, x / y);
  const double whole = ::floor(quotient);
  return quotient - whole > 0.5 ? whole + 1.0 : whole;
}

Number power(const Number& base, const Number& exponent) {
  if (integers(base, exponent) && exponent.integer() >= 0) return integer_power(base.integer(), exponent.integer());
  return float_power(base.to_double(), exponent.to_double());
}

bool operator<(const Number& a, const Number& b) {
  return compare(a, b) == -1;
}
bool operator>(const Number& a, const Number& b) {
  return compare(a, b) == 1;
}
bool operator<=(const Number& a, const Number& b) {
  return compare(a, b) <= 0;
}
bool operator>=(const Number& a, const Number& b) {
  const int order = compare(a, b);
  return order == 0 || order == 1;
}
bool equals(const Number& a, const Number& b) {
  return compare(a, b) == 0;
}
Number minimum(const Number& a, const Number& b) {
  return b < a ? b : a;
}
Number maximum(const Number& a, const Number& b) {
  return b > a ? b : a;
}

Number cosine(const Number& radians) {
  const double angle = radians.to_double();
  if (isinf(angle)) raise("ValueError: math domain error");
  return ::cos(angle);
}

Number logarithm(const Number& number, const Number& base) {
  return Number(log_of(number)) / Number(log_of(base));
}

std::int64_t floor_to_int(const Number& number) {
  return to_int(number, ::floor);
}
std::int64_t truncate_to_int(const Number& number) {
  return to_int(number, ::trunc);
}
Number to_float(const Number& number) {
  return number.to_double();
}

static_assert(sizeof(std::fenv_t) <= 64 && alignof(std::fenv_t) <= 16);

PlainArithmetic::PlainArithmetic() noexcept {
  std::fegetenv(new (saved_) std::fenv_t);
  std::fesetenv(FE_DFL_ENV);
}

PlainArithmetic::~PlainArithmetic() {
  std::fesetenv(reinterpret_cast<const std::fenv_t*>(saved_));
}

}  // namespace torchkeep::lr_scheduler
