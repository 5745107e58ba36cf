// SPDX-License-Identifier: BSD-3-Clause
// This process, and the time.
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

schema::Provenance provenance_now(const RunOptions& options, const Ancestry& ancestry) {
  return {.torchkeep = TORCHKEEP_VERSION,
          .host = host_name(),
          .pid = static_cast<std::int64_t>(::getpid()),
          .time = fmt::format("{:%Y-%m-%dT%H:%M:%SZ}", fmt::gmtime(std::time(nullptr))),
          .parent_step = ancestry.parent_step,
          .resumed_at = ancestry.resumed_at,
          .keep = rules_of(options),
          .best_by = rules_of(options).by};
}

KeepRules rules_of(const RunOptions& options) {
  KeepRules rules{.last = options.keep_last, .every = options.keep_every, .best = options.keep_best, .by = {}};
  if (!options.best_metric.empty()) rules.by = BestBy{options.best_metric, options.best};
  return rules;
}

}  // namespace torchkeep
