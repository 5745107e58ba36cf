// SPDX-License-Identifier: BSD-3-Clause
// Reads the folder once, each checkpoint's structure once, and applies the rules of retention to what it found.
#include <algorithm>

#include <torchkeep/run/overview.h>
#include <torchkeep/run/schema.h>

#include "entries.h"
#include "places.h"
#include "retain.h"

namespace torchkeep {
namespace {

/// Fills in what the file says, and returns the rules that it records.
std::optional<KeepRules> look_into(const CheckpointStore& store, CheckpointOverview& one) {
  try {
    const Value value = store.structure(one.path);
    schema::layout_of(value);
    one.metrics = schema::metrics_of(value);
    schema::Provenance provenance = schema::provenance_of(value);
    one.time = std::move(provenance.time);
    one.host = std::move(provenance.host);
    if (value.get(schema::kStep, none) != Value(one.step)) one.problem = "it does not hold the step of its name";
    return provenance.keep;
  } catch (const Error& error) {
    // One that went away meanwhile has a problem too: the listing is older than the folder.
    Where where = error.where();
    where.file.clear();
    one.problem = Error(error.code(), error.message(), where).what();
    return std::nullopt;
  }
}

class Looker {
 public:
  Looker(Fs& fs, const std::string& directory) : store_(fs, directory) { overview_.directory = directory; }

  RunOverview run(const std::optional<KeepRules>& rules) && {
    read_names();
    for (CheckpointOverview& one : overview_.checkpoints) {
      if (auto recorded = look_into(store_, one)) overview_.rules = std::move(recorded);
    }
    if (rules) overview_.rules = rules;
    if (!overview_.checkpoints.empty()) explain();
    return std::move(overview_);
  }

 private:
  void read_names() {
    for (const CheckpointInfo& info : store_.list()) {
      CheckpointOverview one;
      one.step = info.step;
      one.path = info.path;
      one.pinned = info.pinned;
      one.size = store_.size(info.path);
      overview_.checkpoints.push_back(std::move(one));
    }
    overview_.odd = odd_entries(store_);
    overview_.broken = store_.quarantined();
    overview_.leftovers = store_.leftovers();
    for (const std::int64_t pinned : store_.pins()) {
      if (!has_step(pinned)) overview_.dangling_pins.push_back(pinned);
    }
    Fs& fs = store_.fs();
    for (const std::string& name : fs.list(overview_.directory)) {
      const auto end = names::parse_finished(name);
      if (end && is_file(fs, in_directory(overview_.directory, name))) overview_.finished = end;
    }
  }

  bool has_step(std::int64_t step) const {
    return std::any_of(overview_.checkpoints.begin(), overview_.checkpoints.end(),
                       [step](const CheckpointOverview& one) { return one.step == step; });
  }

  void explain() {
    std::vector<CheckpointOverview>& all = overview_.checkpoints;
    const KeepRules rules = overview_.rules.value_or(KeepRules());
    std::vector<Candidate> candidates;
    for (const CheckpointOverview& one : all) {
      const auto metric = rules.by ? schema::metric_in(one.metrics, rules.by->metric) : std::nullopt;
      candidates.push_back({one.step, metric, one.pinned, !one.problem.empty()});
    }
    const auto reasons = reasons_to_keep(candidates, rules, all.back().step);
    const auto best = rules.by ? best_steps(candidates, 1, rules.by->best) : std::vector<std::int64_t>();
    for (std::size_t i = 0; i < all.size(); ++i) {
      all[i].last = i + 1 == all.size();
      all[i].best = !best.empty() && best.front() == all[i].step;
      all[i].kept_by = reasons[i];
    }
  }

  CheckpointStore store_;
  RunOverview overview_;
};

}  // namespace

RunOverview look_at_run(const std::string& directory, const std::optional<KeepRules>& rules, Fs& fs) {
  const auto status = fs.status(directory);
  if (!status) throw Error(Code::not_found, "no such folder", at_file(directory)).with_errno(ENOENT);
  if (status->kind != FileKind::directory) {
    throw Error(Code::invalid_argument, "expected the folder of a run, found a file", at_file(directory));
  }
  return Looker(fs, directory).run(rules);
}

}  // namespace torchkeep
