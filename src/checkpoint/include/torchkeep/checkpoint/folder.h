// SPDX-License-Identifier: BSD-3-Clause
// Folders that are one checkpoint: those of torch.distributed.checkpoint (docs/dcp.md), which load() and verify() take
// like files.
#pragma once

#include <optional>
#include <string>

#include <torchkeep/files/stores.h>
#include <torchkeep/format/dcp.h>

namespace torchkeep {

/// The folder at `path` when it is one of torch.distributed.checkpoint, finished or not; nothing when something else or
/// nothing is there. `fs` must outlive it.
std::optional<Folder> find_dcp_folder(const std::string& path, Fs& fs = any_store());

}  // namespace torchkeep
