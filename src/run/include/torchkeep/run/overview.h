// SPDX-License-Identifier: BSD-3-Clause
// A run directory at a glance: every checkpoint with its metrics and the reasons why it is kept. Needs no lock.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include <torchkeep/files/fs.h>
#include <torchkeep/run/checkpoint_store.h>
#include <torchkeep/run/checkpoints.h>
#include <torchkeep/state/value.h>

namespace torchkeep {

/// A checkpoint as its file tells about it; only the file's structure is read, not its tensors.
struct CheckpointOverview {
  std::int64_t step = 0;
  std::string path;
  std::uint64_t size = 0;  ///< bytes
  std::string time;        ///< when it was written, UTC: "2026-11-23T22:39:01Z"; empty when it does not say
  std::string host;        ///< where
  Value metrics;           ///< a dict, or None
  bool pinned = false;
  bool last = false;                 ///< the newest
  bool best = false;                 ///< by the metric the run goes by
  std::vector<std::string> kept_by;  ///< reasons: "newest", "pinned", "one of the 3 newest", "every 1000", "best loss"
  std::string problem;               ///< why it cannot be opened; empty when it can
};

/// A file or folder that is no checkpoint (any more), under its name of old.
using SetAside = StoredEntry;

struct RunOverview {
  std::string directory;
  std::vector<CheckpointOverview> checkpoints;  ///< oldest first
  std::vector<SetAside> broken;                 ///< damaged checkpoints that a resume set aside
  std::vector<SetAside> leftovers;              ///< of a killed process; the next writer removes or restores them
  std::vector<std::int64_t> dangling_pins;      ///< pins whose checkpoint does not exist
  std::vector<std::string> odd;                 ///< no files under names of a run's: "step-00000003.pt (a folder)"
  std::optional<std::int64_t> finished;         ///< the step at which training ended
  std::optional<KeepRules> rules;               ///< as the newest checkpoint records them
};

/// Looks at everything in `directory`. `kept_by` goes by the rules the newest checkpoint records (or by `rules`).
/// Throws Error (not_found) when there is no such folder, (io) when it cannot be read.
RunOverview look_at_run(const std::string& directory, const std::optional<KeepRules>& rules = {}, Fs& fs = posix_fs());

}  // namespace torchkeep
