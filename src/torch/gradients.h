// SPDX-License-Identifier: BSD-3-Clause
// Accumulated gradients as part of a checkpoint.
#pragma once

#include <functional>
#include <vector>

#include "completeness.h"

namespace torchkeep {

/// The gradients of all parameters that have one, by "<tracked module>.<name>"; they alias the live ones.
Value gradients_of(const std::vector<TrackedModule>& modules);

/// Checks a saved gradients dict; what is returned gives every parameter its gradient, and those that are not in the
/// dict none. Throws Error (mismatch) that lists what does not fit.
std::function<void()> prepare_gradients(const std::vector<TrackedModule>& modules, const Value& value);

}  // namespace torchkeep
