// SPDX-License-Identifier: BSD-3-Clause
// What stands under the names of a run: a folder, link or pipe there is not the run's, and left alone.
#pragma once

#include <array>
#include <string>
#include <string_view>
#include <vector>

#include <torchkeep/files/fs.h>
#include <torchkeep/run/checkpoint_store.h>
#include <torchkeep/run/names.h>

namespace torchkeep {

/// The files that a run writes beside its checkpoints.
inline constexpr std::array<std::string_view, 2> kLogs = {names::kMetrics, names::kSaves};

/// Whether a file of its own stands under the name, and no link to one.
bool is_file(Fs& fs, const std::string& path);

/// What stands under names of a run and is passed over: "step-00000003.pt (a folder)".
std::vector<std::string> odd_entries(const CheckpointStore& store);

}  // namespace torchkeep
