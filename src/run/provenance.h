// SPDX-License-Identifier: BSD-3-Clause
// Where a checkpoint comes from: all that differs between two runs of one program, under one key.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include <torchkeep/run/options.h>
#include <torchkeep/run/overview.h>
#include <torchkeep/state/value.h>

namespace torchkeep {

/// What a checkpoint knows of the run that led to it.
struct Ancestry {
  std::optional<std::int64_t> parent_step;  ///< the checkpoint before it; nothing at the beginning
  std::vector<std::int64_t> resumed_at;     ///< the steps at which processes continued, oldest first
};

/// The entry "provenance" of a checkpoint written now by this process. `extra` are the front's entries.
Value provenance_now(const RunOptions& options, const Ancestry& ancestry, const Value& extra);

/// The steps at which a run continued, as a checkpoint's provenance records them; none where it records none.
std::vector<std::int64_t> recorded_resumes(const Value& provenance);
/// The rules of retention that a checkpoint's provenance records.
std::optional<KeepRules> recorded_rules(const Value& provenance);

}  // namespace torchkeep
