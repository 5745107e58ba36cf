// SPDX-License-Identifier: BSD-3-Clause
// The probes, compiled with the options of src/schedule.
#define PROBE_NAMESPACE protected_by_options
#include "probe.h"

#include "protected.h"

namespace torchkeep::test {

Probes protected_probes() {
  using namespace protected_by_options;
  return {contracts(), reassociates(), multiplies_by_reciprocals(), forgets_nan(), computes_cos_itself()};
}

}  // namespace torchkeep::test
