// SPDX-License-Identifier: BSD-3-Clause
// torchkeep path, pin, unpin, rm, prune: one checkpoint of a run, which are kept for ever, and which go.
#include <algorithm>
#include <fmt/format.h>

#include <torchkeep/run/checkpoints.h>
#include <torchkeep/run/names.h>
#include <torchkeep/run/tidy.h>

#include "json.h"
#include "text.h"
#include "verbs.h"

namespace torchkeep::cli {
namespace {

std::optional<BestBy> chosen_metric(const std::string& metric, bool maximize) {
  if (!metric.empty()) return BestBy{metric, maximize ? Best::max : Best::min};
  if (maximize) throw Error(Code::invalid_argument, "--max needs --metric");
  return std::nullopt;
}

// The steps of "last", "best", "4000", each once.
std::vector<std::int64_t> find_steps(const std::string& directory, const std::vector<std::string>& which) {
  std::vector<std::int64_t> steps;
  for (const std::string& name : which) {
    const std::string path = find_checkpoint(directory, name);
    const auto step = names::parse_checkpoint(std::string_view(path).substr(path.rfind('/') + 1));
    if (std::find(steps.begin(), steps.end(), *step) == steps.end()) steps.push_back(*step);
  }
  return steps;
}

void write_files(JsonWriter& json, const char* name, const std::vector<SetAside>& files) {
  json.key(name), json.begin_array();
  for (const SetAside& one : files) {
    json.begin_object();
    json.member("step", one.step), json.member("path", one.path), json.member("size", one.size);
    json.end_object();
  }
  json.end_array();
}

RemovalOptions removal_options(bool dry_run, bool without_lock) {
  return {.dry_run = dry_run,
          .locking = without_lock ? Locking::if_available : Locking::required,
          .if_unsupported = "use --without-lock"};
}

int report(Session& session, const std::string& directory, const Removal& done, bool dry_run) {
  if (session.json) {
    JsonWriter json(session.out);
    json.begin_document("torchkeep.remove/1");
    json.member("directory", directory);
    json.member("dry_run", dry_run);
    write_files(json, "removed", done.removed);
    write_files(json, "pinned", done.pinned);
    json.member("bytes", done.bytes);
    json.end_document();
    return kGood;
  }
  if (session.quiet) return kGood;
  const char* const verb = dry_run ? "would remove" : "removed";
  for (const SetAside& one : done.removed) {
    session.out.line(fmt::format("{} {}, {}", verb, printable(one.path), human_size(one.size)));
  }
  for (const SetAside& one : done.pinned) {
    session.out.line(fmt::format("{} is pinned and stays", printable(one.path)));
  }
  session.out.line(done.removed.empty() ? "nothing to remove"
                                        : fmt::format("{} {}, {}", verb, counted(done.removed.size(), "checkpoint"),
                                                      human_size(done.bytes)));
  return kGood;
}

int report_pins(Session& session, const PinOptions& options, std::string_view action,
                const std::vector<std::int64_t>& changed, const std::vector<std::int64_t>& unchanged) {
  if (session.json) {
    JsonWriter json(session.out);
    json.begin_document("torchkeep.pin/1");
    json.member("directory", options.directory);
    json.member("dry_run", options.dry_run);
    json.member("action", action);
    json.member("changed", changed);
    json.member("unchanged", unchanged);
    json.end_document();
  } else if (!session.quiet) {
    for (const std::int64_t step : changed)
      session.out.line(fmt::format("{}{}ned step {}", options.dry_run ? "would have " : "", action, step));
    for (const std::int64_t step : unchanged)
      session.out.line(fmt::format("step {} was {}", step, action == "pin" ? "pinned already" : "not pinned"));
  }
  return kGood;
}

std::vector<std::int64_t> pinned_steps(const std::string& directory) {
  std::vector<std::int64_t> steps;
  for (const CheckpointInfo& one : list_checkpoints(directory)) {
    if (one.pinned) steps.push_back(one.step);
  }
  return steps;
}

int change_pins(Session& session, const PinOptions& options, bool pin) {
  const std::vector<std::int64_t> pinned = pinned_steps(options.directory);
  std::vector<std::int64_t> changed, unchanged;
  for (const std::int64_t step : find_steps(options.directory, options.checkpoints)) {
    const bool is_pinned = std::find(pinned.begin(), pinned.end(), step) != pinned.end();
    (is_pinned == pin ? unchanged : changed).push_back(step);
  }
  for (const std::int64_t step : changed) {
    if (options.dry_run) break;
    if (pin)
      pin_checkpoint(options.directory, step);
    else
      unpin_checkpoint(options.directory, step);
  }
  return report_pins(session, options, pin ? "pin" : "unpin", changed, unchanged);
}

}  // namespace

int run_path(Session& session, const PathOptions& options) {
  const std::string path =
      find_checkpoint(options.directory, options.checkpoint, chosen_metric(options.metric, options.maximize));
  if (!session.json) {
    session.out.line(path);  // as it is: a script wants these bytes
    return kGood;
  }
  JsonWriter json(session.out);
  json.begin_document("torchkeep.path/1");
  json.member("directory", options.directory);
  json.member("which", options.checkpoint);
  json.member("path", path);
  json.end_document();
  return kGood;
}

int run_pin(Session& session, const PinOptions& options) {
  return change_pins(session, options, true);
}

int run_unpin(Session& session, const PinOptions& options) {
  return change_pins(session, options, false);
}

int run_rm(Session& session, const RmOptions& options) {
  if (options.broken == !options.checkpoints.empty()) {
    throw Error(Code::invalid_argument, "expected the steps to remove, or --broken");
  }
  RemovalOptions removal = removal_options(options.dry_run, options.without_lock);
  removal.pinned = removal.newest = options.force;
  const Removal done = options.broken ? remove_broken(options.directory, removal)
                                      : remove_checkpoints(options.directory,
                                                           find_steps(options.directory, options.checkpoints), removal);
  return report(session, options.directory, done, options.dry_run);
}

int run_prune(Session& session, const PruneOptions& options) {
  const bool has_rules = options.keep_last || options.keep_every || options.keep_best;
  const std::optional<KeepRules> recorded = look_at_run(options.directory).rules;
  if (!has_rules && !recorded) {
    throw Error(Code::invalid_argument,
                "this run's checkpoints record no rules: say what to keep with --keep-last, --keep-every, --keep-best");
  }
  KeepRules rules;
  if (!has_rules) rules = *recorded;
  if (has_rules) {
    rules = {.last = options.keep_last.value_or(1),
             .every = options.keep_every.value_or(0),
             .best = options.keep_best.value_or(0),
             .by = recorded ? recorded->by : std::nullopt};
  }
  if (const auto by = chosen_metric(options.metric, options.maximize)) rules.by = by;
  if (!has_rules && rules.last == 0) return report(session, options.directory, {}, options.dry_run);  // it keeps all
  return report(session, options.directory,
                prune_run(options.directory, rules, removal_options(options.dry_run, options.without_lock)),
                options.dry_run);
}

}  // namespace torchkeep::cli
