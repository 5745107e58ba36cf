// SPDX-License-Identifier: BSD-3-Clause
// The checkpoints of a run directory, for everybody: list, find "last" and "best", pin. Needs no lock.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <torchkeep/files/fs.h>
#include <torchkeep/run/options.h>
#include <torchkeep/state/value.h>

namespace torchkeep {

/// One checkpoint of a run directory.
struct CheckpointInfo {
  std::int64_t step = 0;
  std::string path;
  bool pinned = false;
};

/// The checkpoints in `directory`, oldest first: files only, also behind links; what else has such a name is none. A
/// folder that does not exist holds none.
std::vector<CheckpointInfo> list_checkpoints(const std::string& directory, Fs& fs = posix_fs());

/// The path of a checkpoint by name: "last" (the newest), "best" (by the metric the newest checkpoint says the run goes
/// by, or by `by`), or a step ("400"). Each is found by looking, so it is always up to date and never a copy. Throws
/// Error: not_found (no such checkpoint; none has the metric), invalid_argument (another name; no metric is known).
std::string find_checkpoint(const std::string& directory, std::string_view name, const std::optional<BestBy>& by = {},
                            Fs& fs = posix_fs());

/// The metrics a checkpoint was saved with, without reading its tensors.
Value checkpoint_metrics(const std::string& path, Fs& fs = posix_fs());

/// Keeps the checkpoint of `step` whatever the retention options say, while the run is running too; the pin is durable
/// when this returns. Throws Error (not_found) when there is no such checkpoint (any more).
void pin_checkpoint(const std::string& directory, std::int64_t step, Fs& fs = posix_fs());
/// Removes the pin; false when there was none.
bool unpin_checkpoint(const std::string& directory, std::int64_t step, Fs& fs = posix_fs());

}  // namespace torchkeep
