// SPDX-License-Identifier: BSD-3-Clause
// Which checkpoints are kept, and how one is removed so that a pin set at the same moment still holds.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include <torchkeep/run/checkpoint_store.h>
#include <torchkeep/run/options.h>
#include <torchkeep/state/value.h>

namespace torchkeep {

/// A checkpoint as the retention rules see it.
struct Candidate {
  std::int64_t step = 0;
  std::optional<double> metric;  ///< nothing: not known
  bool pinned = false;
};

/// True when `a` is better than `b`.
bool is_better(double a, double b, Best best) noexcept;

/// The best `count` steps, best first. Unknown and NaN are never best; of equals the older is better.
std::vector<std::int64_t> best_steps(const std::vector<Candidate>& candidates, std::int64_t count, Best best);

/// The steps that no rule keeps, oldest first. `newest_verified` and whatever is newer is always kept.
std::vector<std::int64_t> surplus(const std::vector<Candidate>& candidates, const RunOptions& options,
                                  std::int64_t newest_verified);

/// The metrics of a checkpoint, without reading its tensors. Throws Error.
Value metrics_of(const CheckpointStore& store, const std::string& path);
/// The value of a metric in a checkpoint; nothing when it has none, is damaged or gone. Throws Error when it
/// cannot be read just now (io), or not by this version (unsupported, refused).
std::optional<double> metric_of(const CheckpointStore& store, const std::string& path, const std::string& metric);

/// Applies the rules to a directory after the checkpoint of `newest_verified` was made durable and read back.
class Retention final {
 public:
  Retention(const CheckpointStore& store, const RunOptions& options) : store_(store), options_(options) {}
  /// Returns the steps that were removed. Throws Error when the directory cannot be read or a file not be removed.
  std::vector<std::int64_t> apply(std::int64_t newest_verified);
  /// The checkpoint of `step` was written anew.
  void forget(std::int64_t step) { metrics_.erase(step); }

 private:
  void look_up_metric(const std::string& path, Candidate& candidate);

  const CheckpointStore& store_;
  const RunOptions& options_;
  std::map<std::int64_t, std::optional<double>> metrics_;  ///< read once per checkpoint
};

}  // namespace torchkeep
