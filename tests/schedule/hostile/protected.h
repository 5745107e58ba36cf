// SPDX-License-Identifier: BSD-3-Clause
// What the probes of probe.h find where the options of src/schedule hold.
#pragma once

namespace torchkeep::test {

struct Probes {
  bool contracts, reassociates, multiplies_by_reciprocals, forgets_nan, computes_cos_itself;
};

Probes protected_probes();

}  // namespace torchkeep::test
