// SPDX-License-Identifier: BSD-3-Clause
// Host, process, time and versions.
#include "provenance.h"

#include <array>
#include <ctime>
#include <fmt/chrono.h>
#include <fmt/format.h>
#include <unistd.h>

namespace torchkeep {
namespace {

std::string host_name() {
  std::array<char, 256> host{};
  if (::gethostname(host.data(), host.size() - 1) != 0) return "unknown";
  return host.data();
}

}  // namespace

Value provenance_now(const RunOptions& options, const Ancestry& ancestry, const Value& extra) {
  Value now{{"torchkeep", TORCHKEEP_VERSION},
            {"host", Value::string(host_name())},
            {"pid", static_cast<std::int64_t>(::getpid())},
            {"time", Value::string(fmt::format("{:%Y-%m-%dT%H:%M:%SZ}", fmt::gmtime(std::time(nullptr))))},
            {"parent_step", ancestry.parent_step ? Value(*ancestry.parent_step) : Value()},
            {"resumed_at", Value(ancestry.resumed_at)},
            {"keep", Value{{"last", options.keep_last}, {"every", options.keep_every}, {"best", options.keep_best}}}};
  if (!options.best_metric.empty()) {
    const char* const best = options.best == Best::min ? "min" : "max";
    now.set("best_by", Value{{"metric", Value::string(options.best_metric)}, {"best", best}});
  }
  for (const Entry& entry : extra.items()) now.set(entry.key, entry.value);
  return now;
}

std::vector<std::int64_t> recorded_resumes(const Value& provenance) {
  std::vector<std::int64_t> steps;
  const auto recorded = provenance.is_mapping() ? provenance.find("resumed_at") : std::nullopt;
  if (!recorded || !recorded->is(Kind::list)) return steps;
  for (const Value& step : recorded->elements()) {
    if (step.is(Kind::integer)) steps.push_back(step.as_integer().to_int64().value_or(0));
  }
  return steps;
}

std::optional<KeepRules> recorded_rules(const Value& provenance) {
  const auto keep = provenance.is_mapping() ? provenance.find("keep") : std::nullopt;
  if (!keep || !keep->is_mapping()) return std::nullopt;
  const auto number = [&](const char* name) -> std::int64_t {
    const auto value = keep->find(name);
    return value && value->is(Kind::integer) ? value->as_integer().to_int64().value_or(0) : 0;
  };
  KeepRules rules{.last = number("last"), .every = number("every"), .best = number("best"), .by = {}};
  const auto by = provenance.find("best_by");
  const auto metric = by && by->is_mapping() ? by->find("metric") : std::nullopt;
  if (metric && metric->is(Kind::string)) {
    rules.by = BestBy{metric->as_string(), by->get("best", none) == Value("max") ? Best::max : Best::min};
  }
  return rules;
}

}  // namespace torchkeep
