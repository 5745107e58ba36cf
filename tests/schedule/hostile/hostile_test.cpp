// SPDX-License-Identifier: BSD-3-Clause
// The options of src/schedule hold against this folder's flags, and the flags are really at work in the rest of the
// program: or the golden test beside this one would prove nothing.
#include <gtest/gtest.h>

#include "protected.h"

#define PROBE_NAMESPACE not_protected
#include "probe.h"

namespace torchkeep::test {
namespace {

#ifndef __FAST_MATH__
#error "the folder's flags did not arrive"
#endif

TEST(Hostile, ProductsAreNotFusedWithSums) {
  EXPECT_FALSE(protected_probes().contracts);
#if defined(__FMA__) || defined(__aarch64__)
  EXPECT_TRUE(not_protected::contracts());
#endif
}

TEST(Hostile, SumsAreNotRearranged) {
  EXPECT_FALSE(protected_probes().reassociates);
  EXPECT_TRUE(not_protected::reassociates());
}

TEST(Hostile, DivisionsStayDivisions) {
  EXPECT_FALSE(protected_probes().multiplies_by_reciprocals);
  EXPECT_TRUE(not_protected::multiplies_by_reciprocals());
}

TEST(Hostile, NanIsKnown) {
  EXPECT_FALSE(protected_probes().forgets_nan);
  EXPECT_TRUE(not_protected::forgets_nan());
}

TEST(Hostile, CosIsLibmsAlways) {
  EXPECT_FALSE(protected_probes().computes_cos_itself);
  EXPECT_TRUE(not_protected::computes_cos_itself());
}

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

}  // namespace
}  // namespace torchkeep::test
