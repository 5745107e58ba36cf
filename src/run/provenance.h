// SPDX-License-Identifier: BSD-3-Clause
// The provenance of a checkpoint that this process writes now.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include <torchkeep/run/schema.h>

namespace torchkeep {

/// What a checkpoint knows of the run that led to it.
struct Ancestry {
  std::optional<std::int64_t> parent_step;  ///< the checkpoint before it; nothing at the beginning
  std::vector<std::int64_t> resumed_at;     ///< the steps at which processes continued, oldest first
};

schema::Provenance provenance_now(const RunOptions& options, const Ancestry& ancestry);

/// The rules of retention that options give, with what "best" goes by.
KeepRules rules_of(const RunOptions& options);

}  // namespace torchkeep
