// SPDX-License-Identifier: BSD-3-Clause
// Looking into a run directory: what is there, which is last and best, and pins.
#include <algorithm>
#include <charconv>
#include <fmt/format.h>

#include <torchkeep/run/checkpoint_store.h>
#include <torchkeep/run/checkpoints.h>
#include <torchkeep/run/schema.h>

#include "places.h"
#include "retain.h"

namespace torchkeep {
namespace {

std::string find_step(const std::vector<CheckpointInfo>& all, const std::string& directory, std::string_view name) {
  std::int64_t step = -1;
  const auto [end, error] = std::from_chars(name.data(), name.data() + name.size(), step);
  if (error != std::errc() || end != name.data() + name.size() || step < 0) {
    throw Error(Code::invalid_argument, fmt::format("expected 'last', 'best' or a step, found '{}'", name),
                at_file(directory));
  }
  const auto found = std::find_if(all.begin(), all.end(), [&](const auto& one) { return one.step == step; });
  if (found == all.end()) {
    throw Error(Code::not_found,
                fmt::format("no checkpoint of step {}; the oldest is of step {}, the newest of step {}", step,
                            all.front().step, all.back().step),
                at_file(directory));
  }
  return found->path;
}

/// What the checkpoint says "best" goes by.
BestBy best_by(const CheckpointStore& store, const std::string& path) {
  const auto by = schema::provenance_of(store.structure(path)).best_by;
  if (by) return *by;
  throw Error(Code::invalid_argument, "this run names no metric that 'best' goes by; name one", at_file(path));
}

}  // namespace

std::vector<CheckpointInfo> list_checkpoints(const std::string& directory, Fs& fs) {
  return CheckpointStore(fs, directory).list();
}

std::string find_checkpoint(const std::string& directory, std::string_view name, const std::optional<BestBy>& by,
                            Fs& fs) {
  const CheckpointStore store(fs, directory);
  const auto all = store.list();
  if (all.empty()) throw Error(Code::not_found, "no checkpoint in this folder", at_file(directory));
  if (name == "last") return all.back().path;
  if (name != "best") return find_step(all, directory, name);
  const BestBy rule = by ? *by : best_by(store, all.back().path);
  std::vector<Candidate> candidates;
  for (const CheckpointInfo& one : all) {
    candidates.push_back({one.step, metric_of(store, one.path, rule.metric), one.pinned});
  }
  const auto best = best_steps(candidates, 1, rule.best);
  if (best.empty()) {
    throw Error(Code::not_found, fmt::format("no checkpoint has a value of the metric '{}'", rule.metric),
                at_file(directory));
  }
  return std::find_if(all.begin(), all.end(), [&](const auto& one) { return one.step == best.front(); })->path;
}

Value checkpoint_metrics(const std::string& path, Fs& fs) {
  return metrics_of(CheckpointStore(fs, {}), path);
}

void pin_checkpoint(const std::string& directory, std::int64_t step, Fs& fs) {
  CheckpointStore(fs, directory).pin(step);
}

bool unpin_checkpoint(const std::string& directory, std::int64_t step, Fs& fs) {
  return CheckpointStore(fs, directory).unpin(step);
}

}  // namespace torchkeep
