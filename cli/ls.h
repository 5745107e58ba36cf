// SPDX-License-Identifier: BSD-3-Clause
// torchkeep ls on a run directory.
#pragma once

#include "verbs.h"

namespace torchkeep::cli {

/// Lists the checkpoints of a run.
void list_run(Session& session, const std::string& directory, const LsOptions& options);

}  // namespace torchkeep::cli
