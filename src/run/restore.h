// SPDX-License-Identifier: BSD-3-Clause
// A checkpoint into the tracked objects: all of it, or an error that lists everything that does not fit.
#pragma once

#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include <torchkeep/run/engine.h>

namespace torchkeep {

struct TrackedItem {
  std::string name;
  Tracked tracked;
};

/// The state of one thing; errors name it.
Value capture(const TrackedItem& item);
bool is_tracked(const std::vector<TrackedItem>& items, std::string_view name) noexcept;

/// Checks everything, then changes everything, in the order of `items` (what cannot be checked comes first). `warn`
/// gets what is only worth a warning: a state that may be missing and is, an entry that nobody tracks. Throws Error
/// (mismatch) before the first change.
void restore(const std::vector<TrackedItem>& items, const RunOptions& options, const Value& checkpoint,
             const std::function<void(std::string)>& warn);

}  // namespace torchkeep
