// SPDX-License-Identifier: BSD-3-Clause
// The flags of this folder are really at work in the rest of the program: or the golden test would prove nothing.
#include <cmath>
#include <gtest/gtest.h>
#include <limits>

namespace {

#ifndef __FAST_MATH__
#error "the folder's flags did not arrive"
#endif

TEST(Hostile, DenormalsAreFlushedInThisProgram) {
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__)
  // -ffast-math at link time: crtfastmath.o sets the processor so before main().
  volatile double tiny = 3e-310;
  volatile double half = 0.5;
  volatile double product = tiny * half;
  EXPECT_EQ(product, 0.0);
#else
  GTEST_SKIP() << "this compiler does not link crtfastmath.o";
#endif
}

TEST(Hostile, ThisFileIsContracted) {
#if defined(__FMA__) || defined(__aarch64__)
  volatile double x = 1.0 + 0x1p-30;
  const double a = x, b = x, c = -(1.0 + 0x1p-29);
  EXPECT_EQ(a * b + c, 0x1p-60);  // 0 when the product is rounded first
#else
  GTEST_SKIP() << "this processor has no fused multiply-add";
#endif
}

}  // namespace
