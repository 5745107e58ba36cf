// SPDX-License-Identifier: BSD-3-Clause
// The states every format is tried on.
#pragma once

#include <string>
#include <vector>

#include <torchkeep/state/value.h>

namespace torchkeep::testing {

struct NamedState {
  std::string name;  ///< letters, digits and underscores
  Value value;
};

/// Small and odd states: every kind, every dtype, every way of sharing, the sizes around batches and limits.
std::vector<NamedState> conformance_states();

/// A few large ones: 100,000 levels of nesting, 100,000 entries, a key of a megabyte.
std::vector<NamedState> large_states();

/// What the formats must refuse to write, each with the key path the error names.
struct RefusedState {
  std::string name;
  Value value;
  std::string key;
};
std::vector<RefusedState> refused_states();

}  // namespace torchkeep::testing
