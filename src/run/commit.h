// SPDX-License-Identifier: BSD-3-Clause
// One save, from a captured state to a durable file that was read back. Knows nothing of the engine, so that it can run
// on a thread of its own.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include <torchkeep/files/fs.h>
#include <torchkeep/run/options.h>
#include <torchkeep/state/value.h>

namespace torchkeep {

struct CommitRequest {
  std::int64_t step = 0;
  std::string path;
  Value checkpoint;
};

struct CommitReport {
  std::int64_t step = 0;
  std::string path;
  std::optional<Error> error;  ///< nothing: the checkpoint is saved
  std::uint64_t bytes = 0;
  double seconds = 0;
};

/// Saves as `options` say. Errors are in the report.
CommitReport commit(Fs& fs, const RunOptions& options, const CommitRequest& request);

}  // namespace torchkeep
