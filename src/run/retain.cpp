// SPDX-License-Identifier: BSD-3-Clause
// Retention: the rules, and the removal.
//
// The rules of retention, and their application to a run directory.
#include "retain.h"

#include <algorithm>
#include <cmath>
#include <set>

#include <torchkeep/run/schema.h>

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

std::vector<std::int64_t> surplus(const std::vector<Candidate>& candidates, const RunOptions& options,
                                  std::int64_t newest_verified) {
  if (options.keep_last == 0) return {};
  std::vector<std::int64_t> steps;
  for (const Candidate& one : candidates) steps.push_back(one.step);
  std::sort(steps.begin(), steps.end());
  const auto best = best_steps(candidates, options.keep_best, options.best);
  std::set<std::int64_t> kept(best.begin(), best.end());
  const std::size_t last = std::min<std::size_t>(steps.size(), static_cast<std::size_t>(options.keep_last));
  kept.insert(steps.end() - static_cast<std::ptrdiff_t>(last), steps.end());
  for (const Candidate& one : candidates) {
    const bool milestone = options.keep_every > 0 && one.step % options.keep_every == 0;
    if (one.pinned || milestone || one.step >= newest_verified) kept.insert(one.step);
  }
  std::erase_if(steps, [&](std::int64_t step) { return kept.contains(step); });
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
    candidates.push_back({one.step, std::nullopt, one.pinned});
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
    candidate.pinned = true;  // it may be the best: kept until it can be read again
  }
}

}  // namespace torchkeep
