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

Value provenance_now(const RunOptions& options, std::optional<std::int64_t> parent_step, const Value& extra) {
  Value now{{"torchkeep", TORCHKEEP_VERSION},
            {"host", Value::string(host_name())},
            {"pid", static_cast<std::int64_t>(::getpid())},
            {"time", Value::string(fmt::format("{:%Y-%m-%dT%H:%M:%SZ}", fmt::gmtime(std::time(nullptr))))},
            {"parent_step", parent_step ? Value(*parent_step) : Value()}};
  if (!options.best_metric.empty()) {
    const char* const best = options.best == Best::min ? "min" : "max";
    now.set("best_by", Value{{"metric", Value::string(options.best_metric)}, {"best", best}});
  }
  for (const Entry& entry : extra.items()) now.set(entry.key, entry.value);
  return now;
}

}  // namespace torchkeep
