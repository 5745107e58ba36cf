// SPDX-License-Identifier: BSD-3-Clause
// Python's arithmetic on int and float, operation by operation: what makes learning rates bit-identical.
#pragma once

#include <cstdint>

#include <torchkeep/schedule/number.h>

namespace torchkeep::lr_scheduler {

// None of these is inline: an inline function would also be compiled into the user's files, with the user's flags, and
// the linker could take that copy. All throw Error(invalid_argument) with Python's words (ZeroDivisionError ...), and
// Error(unsupported) where Python would go on with an int of more than 64 bits or a complex number.
Number operator-(const Number& a);
Number operator+(const Number& a, const Number& b);
Number operator-(const Number& a, const Number& b);
Number operator*(const Number& a, const Number& b);
Number operator/(const Number& a, const Number& b);  ///< true division: 1 / 2 is 0.5
Number operator%(const Number& a, const Number& b);  ///< floored: -1 % 3 is 2
bool operator<(const Number& a, const Number& b);
bool operator>(const Number& a, const Number& b);
bool operator<=(const Number& a, const Number& b);
bool operator>=(const Number& a, const Number& b);

Number floor_divide(const Number& a, const Number& b);     ///< a // b
Number power(const Number& base, const Number& exponent);  ///< base ** exponent
/// a == b of Python, where 1 == 1.0. (Number's own == compares types and bits.)
bool equals(const Number& a, const Number& b);
Number minimum(const Number& a, const Number& b);  ///< min(a, b): a unless b is smaller
Number maximum(const Number& a, const Number& b);  ///< max(a, b): a unless b is larger

Number cosine(const Number& radians);                        ///< math.cos
Number logarithm(const Number& number, const Number& base);  ///< math.log(number, base)
std::int64_t floor_to_int(const Number& number);             ///< math.floor
std::int64_t truncate_to_int(const Number& number);          ///< int(number)
Number to_float(const Number& number);                       ///< float(number)

extern const Number pi;  ///< math.pi

/// While one lives, floating point behaves as a Python interpreter finds it: round to nearest, denormals kept. The
/// thread's own settings (a program linked with -ffast-math or torch::set_flush_denormal flushes denormals) come back
/// with the destructor.
class PlainArithmetic {
 public:
  PlainArithmetic() noexcept;
  ~PlainArithmetic();
  PlainArithmetic(const PlainArithmetic&) = delete;
  PlainArithmetic& operator=(const PlainArithmetic&) = delete;

 private:
  alignas(16) unsigned char saved_[64];
};

}  // namespace torchkeep::lr_scheduler
