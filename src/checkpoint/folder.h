// SPDX-License-Identifier: BSD-3-Clause
// Opening and checking folders that are a checkpoint.
#pragma once

#include <optional>

#include <torchkeep/checkpoint/checkpoint.h>
#include <torchkeep/format/open_file.h>

namespace torchkeep {

/// open_dcp() of a folder, under the options of load(); nothing when `path` is none of DCP's.
std::optional<OpenedFile> open_dcp_path(const std::string& path, const LoadOptions& options);

/// Reads all storages of `file` beside its records that have checksums, and keeps nothing.
void check_other_storages(const OpenedFile& file, unsigned threads);

}  // namespace torchkeep
