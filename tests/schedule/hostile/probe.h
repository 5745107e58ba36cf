// SPDX-License-Identifier: BSD-3-Clause
// What compiler flags can do to arithmetic, each seen from inside. Included once with the schedules' own options and
// once without; PROBE_NAMESPACE keeps the two apart.
#pragma once

#include <math.h>

namespace PROBE_NAMESPACE {

/// a * b + c is rounded once instead of twice.
inline bool contracts() {
  volatile double x = 1.0 + 0x1p-30;
  const double a = x, b = x, c = -(1.0 + 0x1p-29);
  volatile double sum = a * b + c;
  return sum != 0.0;
}

/// (a + b) - b becomes a.
inline bool reassociates() {
  volatile double small = 1e-20, one = 1.0;
  const double a = small, b = one;
  volatile double rest = (a + b) - b;
  return rest != 0.0;
}

/// a / 10 becomes a * 0.1.
inline bool multiplies_by_reciprocals() {
  volatile double three = 3.0;
  const double a = three;
  volatile double quotient = a / 10.0;
  return quotient != 0.3;
}

/// a != a is taken to be false.
inline bool forgets_nan() {
  volatile double nan = __builtin_nan("");
  const double a = nan;
  return !(a != a);
}

/// cos of a constant is computed by the compiler's library instead of the machine's libm.
inline bool computes_cos_itself() {
  return __builtin_constant_p(::cos(1.0));
}

}  // namespace PROBE_NAMESPACE
