// SPDX-License-Identifier: BSD-3-Clause
// The curves of a run: its metrics and learning rates over the steps, and where it was resumed.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include <torchkeep/files/stores.h>

namespace torchkeep {

/// Points in the order of the steps. A value may be NaN or infinite.
struct Curve {
  std::string name;
  std::vector<std::int64_t> steps;
  std::vector<double> values;
};

struct RunCurves {
  std::vector<Curve> metrics;         ///< of metrics.jsonl, every name whose values are numbers, as they first appear
  std::vector<Curve> learning_rates;  ///< of the optimizers in the checkpoints that are there: few points
  std::vector<std::int64_t> resumed_at;  ///< steps at which the run continued, as its newest checkpoint records them
  std::uint64_t bad_lines = 0;           ///< of metrics.jsonl that are no JSON object with a step
};

/// Reads the metrics log and the structure of every checkpoint. Takes 16 bytes of memory per point.
/// Throws Error (not_found) when there is no such folder, (io).
RunCurves read_curves(const std::string& directory, Fs& fs = any_store());

}  // namespace torchkeep
