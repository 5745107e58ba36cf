// SPDX-License-Identifier: BSD-3-Clause
// Reads the folder once, each checkpoint's structure once, and applies the rules of retention to what it found.
#include <algorithm>
#include <fmt/format.h>

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
    all.back().last = true;
    std::vector<std::int64_t> best;
    if (rules.by) best = best_steps(candidates(all, *rules.by), static_cast<std::int64_t>(all.size()), rules.by->best);
    for (std::size_t i = 0; i < all.size(); ++i) {
      CheckpointOverview& one = all[i];
      const auto rank = std::find(best.begin(), best.end(), one.step) - best.begin();
      one.best = !best.empty() && rank == 0;
      one.kept_by = reasons(one, rules, all.size() - i, static_cast<std::size_t>(rank) < best.size() ? rank + 1 : 0);
    }
  }

  /// `age` counts from the newest (1); `rank` from the best (1; 0: it has none).
  static std::vector<std::string> reasons(const CheckpointOverview& one, const KeepRules& rules, std::size_t age,
                                          std::int64_t rank) {
    std::vector<std::string> reasons;
    if (one.last) reasons.emplace_back("newest");
    if (one.pinned) reasons.emplace_back("pinned");
    if (!one.last && rules.last > 0 && age <= static_cast<std::size_t>(rules.last))
      reasons.push_back(fmt::format("one of the {} newest", rules.last));
    if (rules.last == 0 && !one.last) reasons.emplace_back("all are kept");
    if (rules.every > 0 && one.step % rules.every == 0) reasons.push_back(fmt::format("every {}", rules.every));
    if (rank > 0 && rank <= rules.best) {
      reasons.push_back(rank == 1 ? fmt::format("best {}", rules.by->metric)
                                  : fmt::format("number {} by {}", rank, rules.by->metric));
    }
    return reasons;
  }

  static std::vector<Candidate> candidates(const std::vector<CheckpointOverview>& all, const BestBy& by) {
    std::vector<Candidate> candidates;
    for (const CheckpointOverview& one : all) {
      candidates.push_back({one.step, schema::metric_in(one.metrics, by.metric), one.pinned});
    }
    return candidates;
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
