// SPDX-License-Identifier: BSD-3-Clause
// One save, from a captured state to a durable file that was read back. Knows nothing of the engine, so that it can run
// on a thread of its own.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include <torchkeep/run/checkpoint_store.h>
#include <torchkeep/run/options.h>
#include <torchkeep/state/value.h>

namespace torchkeep {

struct CommitRequest {
  std::int64_t step = 0;
  Value checkpoint;
  double capture_seconds = 0;  ///< that the training waited for the checkpoint's Value
};

struct CommitReport {
  std::int64_t step = 0;
  std::string path;
  std::optional<Error> error{};  ///< nothing: the checkpoint is saved
  std::uint64_t bytes = 0;
  double seconds = 0;
  bool background = false;
  double blocked_seconds = 0;          ///< that the training waited
  std::uint64_t staged_bytes = 0;      ///< that were copied aside
  std::vector<std::string> changed{};  ///< key paths of what changed while it was written: then nothing is saved
  bool copies_all = false;             ///< from now on everything is copied at once, for too much changes
};

/// Commits the checkpoint of `request` as `options` say. Errors are in the report. `before_commit` as in CommitSteps;
/// it may throw CalledOff, and then nothing is saved.
CommitReport commit(const CheckpointStore& store, const RunOptions& options, const CommitRequest& request,
                    const std::function<void()>& before_commit = {});

}  // namespace torchkeep
