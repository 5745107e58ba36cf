// SPDX-License-Identifier: BSD-3-Clause
// The rules of retention, and their application to a run directory.
#include "retain.h"

#include <algorithm>
#include <cmath>
#include <fmt/format.h>

#include <torchkeep/run/schema.h>

#include "provenance.h"

namespace torchkeep {

bool is_better(double a, double b, Best best) noexcept {
  return best == Best::min ? a < b : a > b;
}

std::vector<std::int64_t> best_steps(const std::vector<Candidate>& candidates, std::int64_t count, Best best) {
  std::vector<Candidate> ranked;
  for (const Candidate& one : candidates) {
    if (one.metric && !std::isnan(*one.metric)) ranked.push_back(one);
  }
  std::sort(ranked.begin(), ranked.end(), [best](const Candidate& a, const Candidate& b) {
    if (*a.metric == *b.metric) return a.step < b.step;
    return is_better(*a.metric, *b.metric, best);
  });
  std::vector<std::int64_t> steps;
  for (const Candidate& one : ranked) {
    if (static_cast<std::int64_t>(steps.size()) == count) break;
    steps.push_back(one.step);
  }
  return steps;
}

namespace {

/// Which place each of the steps has by a metric, from 1 on; only those among the best that are to be kept.
std::map<std::int64_t, std::int64_t> ranks(const std::vector<Candidate>& candidates, const KeepRules& rules) {
  std::map<std::int64_t, std::int64_t> ranks;
  if (!rules.by) return ranks;
  for (const std::int64_t step : best_steps(candidates, rules.best, rules.by->best)) {
    const auto rank = static_cast<std::int64_t>(ranks.size()) + 1;
    ranks.emplace(step, rank);
  }
  return ranks;
}

}  // namespace

std::vector<std::vector<std::string>> reasons_to_keep(const std::vector<Candidate>& candidates, const KeepRules& rules,
                                                      std::int64_t newest_verified) {
  const auto best = ranks(candidates, rules);
  std::vector<std::vector<std::string>> all;
  for (std::size_t i = 0; i < candidates.size(); ++i) {
    const Candidate& one = candidates[i];
    const bool is_newest = i + 1 == candidates.size();
    const auto age = static_cast<std::int64_t>(candidates.size() - i);  // from 1 on
    std::vector<std::string>& reasons = all.emplace_back();
    if (is_newest) reasons.emplace_back("newest");
    if (one.pinned) reasons.emplace_back("pinned");
    if (!is_newest && rules.last == 0) reasons.emplace_back("all are kept");
    if (!is_newest && age <= rules.last) reasons.push_back(fmt::format("one of the {} newest", rules.last));
    if (!is_newest && one.step >= newest_verified) reasons.emplace_back("not older than the newest that was read back");
    if (rules.every > 0 && one.step % rules.every == 0) reasons.push_back(fmt::format("every {}", rules.every));
    if (const auto rank = best.find(one.step); rank != best.end()) {
      reasons.push_back(rank->second == 1 ? fmt::format("best {}", rules.by->metric)
                                          : fmt::format("number {} by {}", rank->second, rules.by->metric));
    }
    if (one.unreadable && rules.best > 0) reasons.emplace_back("its metrics cannot be read");
  }
  return all;
}

std::vector<std::int64_t> surplus(const std::vector<Candidate>& candidates, const RunOptions& options,
                                  std::int64_t newest_verified) {
  KeepRules rules = rules_of(options);
  rules.by = BestBy{options.best_metric, options.best};
  std::vector<Candidate> sorted = candidates;
  std::stable_sort(sorted.begin(), sorted.end(), [](const auto& a, const auto& b) { return a.step < b.step; });
  const auto reasons = reasons_to_keep(sorted, rules, newest_verified);
  std::vector<std::int64_t> steps;
  for (std::size_t i = 0; i < sorted.size(); ++i) {
    if (reasons[i].empty()) steps.push_back(sorted[i].step);
  }
  return steps;
}

Value metrics_of(const CheckpointStore& store, const std::string& path) {
  const Value checkpoint = store.structure(path);
  schema::layout_of(checkpoint);
  return checkpoint.at(schema::kMetrics);
}

std::optional<double> metric_of(const CheckpointStore& store, const std::string& path, const std::string& metric) {
  try {
    return schema::metric_in(metrics_of(store, path), metric);
  } catch (const Error& error) {
    if (error.code() == Code::corrupt || error.code() == Code::not_found) return std::nullopt;
    throw;
  }
}

std::vector<std::int64_t> Retention::apply(std::int64_t newest_verified) {
  std::vector<Candidate> candidates;
  for (const CheckpointInfo& one : store_.list()) {
    candidates.push_back({.step = one.step, .metric = std::nullopt, .pinned = one.pinned});
    if (options_.keep_best > 0) look_up_metric(one.path, candidates.back());
  }
  std::vector<std::int64_t> removed;
  for (const std::int64_t step : surplus(candidates, options_, newest_verified)) {
    if (store_.remove(step)) removed.push_back(step);
    metrics_.erase(step);
  }
  return removed;
}

void Retention::look_up_metric(const std::string& path, Candidate& candidate) {
  const auto known = metrics_.find(candidate.step);
  try {
    candidate.metric = known != metrics_.end() ? known->second : metric_of(store_, path, options_.best_metric);
    metrics_[candidate.step] = candidate.metric;
  } catch (const Error&) {
    candidate.unreadable = true;
  }
}

}  // namespace torchkeep
