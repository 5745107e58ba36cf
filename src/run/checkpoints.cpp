// SPDX-License-Identifier: BSD-3-Clause
// Looking into a run directory: what is there, which is last and best, and pins.
#include <algorithm>
#include <charconv>
#include <fmt/format.h>
#include <set>

#include <torchkeep/files/publish.h>
#include <torchkeep/format/pt.h>
#include <torchkeep/run/checkpoints.h>
#include <torchkeep/run/names.h>
#include <torchkeep/run/schema.h>

#include "entries.h"
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
BestBy best_by(const std::string& path, Fs& fs) {
  const auto by = schema::provenance_of(read_pt(fs.open_read(path)).from_file(path)).best_by;
  if (by) return *by;
  throw Error(Code::invalid_argument, "this run names no metric that 'best' goes by; name one", at_file(path));
}

}  // namespace

std::vector<CheckpointInfo> list_checkpoints(const std::string& directory, Fs& fs) {
  std::vector<std::string> found;
  try {
    found = fs.list(directory);
  } catch (const Error& error) {
    if (error.code() != Code::not_found) throw;
  }
  std::set<std::int64_t> pins;
  std::vector<CheckpointInfo> checkpoints;
  for (const std::string& name : found) {
    if (const auto step = names::parse_pin(name)) pins.insert(*step);
    const auto step = names::parse_checkpoint(name);
    const std::string path = in_directory(directory, name);
    if (step && may_be_checkpoint(fs, path)) checkpoints.push_back({*step, path, false});
  }
  for (CheckpointInfo& checkpoint : checkpoints) checkpoint.pinned = pins.contains(checkpoint.step);
  std::sort(checkpoints.begin(), checkpoints.end(), [](const auto& a, const auto& b) { return a.step < b.step; });
  return checkpoints;
}

std::string find_checkpoint(const std::string& directory, std::string_view name, const std::optional<BestBy>& by,
                            Fs& fs) {
  const auto all = list_checkpoints(directory, fs);
  if (all.empty()) throw Error(Code::not_found, "no checkpoint in this folder", at_file(directory));
  if (name == "last") return all.back().path;
  if (name != "best") return find_step(all, directory, name);
  const BestBy rule = by ? *by : best_by(all.back().path, fs);
  std::vector<Candidate> candidates;
  for (const CheckpointInfo& one : all) {
    candidates.push_back({one.step, metric_of(one.path, rule.metric, fs), one.pinned});
  }
  const auto best = best_steps(candidates, 1, rule.best);
  if (best.empty()) {
    throw Error(Code::not_found, fmt::format("no checkpoint has a value of the metric '{}'", rule.metric),
                at_file(directory));
  }
  return in_directory(directory, names::checkpoint(best.front()));
}

Value checkpoint_metrics(const std::string& path, Fs& fs) {
  const Value checkpoint = read_pt(fs.open_read(path)).from_file(path);
  schema::layout_of(checkpoint);
  return checkpoint.at(schema::kMetrics);
}

void pin_checkpoint(const std::string& directory, std::int64_t step, Fs& fs) {
  const std::string pin = in_directory(directory, names::pin(step));
  const std::string path = in_directory(directory, names::checkpoint(step));
  // First the pin, then the look: whoever removes a checkpoint renames it first and then looks for a pin (retain.cpp),
  // so one of the two sees the other.
  mark(fs, pin);
  fs.sync_directory(directory);
  if (fs.status(path)) return;
  unpin_checkpoint(directory, step, fs);
  throw Error(Code::not_found, "no such checkpoint to pin; it may just have been removed", at_file(path));
}

bool unpin_checkpoint(const std::string& directory, std::int64_t step, Fs& fs) {
  try {
    fs.remove(in_directory(directory, names::pin(step)));
  } catch (const Error& error) {
    if (error.code() != Code::not_found) throw;
    return false;
  }
  fs.sync_directory(directory);
  return true;
}

}  // namespace torchkeep
