// SPDX-License-Identifier: BSD-3-Clause
// Where a checkpoint comes from: all that differs between two runs of one program, under one key.
#pragma once

#include <cstdint>
#include <optional>

#include <torchkeep/run/options.h>
#include <torchkeep/state/value.h>

namespace torchkeep {

/// The entry "provenance" of a checkpoint written now by this process. `extra` are the front's entries.
Value provenance_now(const RunOptions& options, std::optional<std::int64_t> parent_step, const Value& extra);

}  // namespace torchkeep
