// SPDX-License-Identifier: BSD-3-Clause
// From the lock to the first step: what a killed process left behind, and the checkpoint that the run continues from.
#include <cmath>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <torchkeep/files/publish.h>
#include <torchkeep/run/checkpoints.h>
#include <torchkeep/run/names.h>

#include "check_options.h"
#include "engine_impl.h"
#include "entries.h"
#include "provenance.h"

namespace torchkeep {

void Engine::Impl::open() {
  require_folder(given);
  if (!writes()) return;
  make_directories(fs, directory);
  lock = std::make_unique<RunLock>(
      fs, directory,
      LockRules{.locking = options.lock,
                .if_busy = "open the run with " + spelled(options, "role", "Role::reader") + " to read it",
                .if_unsupported = "set " + spelled(options, "lock", "Locking::if_available")});
  if (!lock->is_held())
    warn(directory + " is on a file system without locks: nothing keeps a second process from writing here too");
  const std::size_t removed = store.clean_up() + remove_temporaries(fs, directory, kLogs);
  if (removed == 0) return;
  const std::string files = removed == 1 ? "an unfinished file" : fmt::format("{} unfinished files", removed);
  report({.kind = Event::Kind::cleaned,
          .message = fmt::format("removed {} that a killed process left in {}", files, directory),
          .count = removed});
}

std::int64_t Engine::Impl::resume() {
  check_start();
  std::optional<Recovered> recovered;
  if (options.resume != Resume::never) {
    const auto use = [this](const Recovered& found) { take(found); };
    recovered = recover(store, writes() ? Role::writer : Role::reader, use, options.verify_first);
    if (recovered) recovered->checkpoint = {};  // it holds the file open
  }
  if (!recovered && options.resume == Resume::required) {
    throw Error(Code::not_found,
                "no checkpoint to resume from, and " + spelled(options, "resume", "Resume::required") + " asks for one",
                at_file(directory));
  }
  if (writes()) warn(log.rewind(step));
  last_save = RunClock::now();
  moved = false;
  look_up_best();
  announce(recovered ? &*recovered : nullptr);
  return step;
}

void Engine::Impl::check_start() {
  if (resumed) throw Error(Code::invalid_argument, "this run was resumed already");
  if (items.empty()) {
    throw Error(Code::invalid_argument, "nothing is tracked, so nothing would be saved; call track() before resume()");
  }
  const auto there = store.list();
  if (options.resume == Resume::never && !there.empty()) {
    throw Error(
        Code::invalid_argument,
        fmt::format("holds checkpoints up to step {}, and {} would mix two runs; choose another folder, or move "
                    "them away",
                    there.back().step, spelled(options, "resume", "Resume::never")),
        at_file(directory));
  }
  // What cannot be captured would make every save fail: better to say so before the first step.
  for (const TrackedItem& item : items) capture(item);
}

void Engine::Impl::take(const Recovered& recovered) {
  const Value checkpoint = recovered.checkpoint.from_file(recovered.path);
  events.clear();  // of one that turned out damaged while it was used, or of a resume() that failed
  const Value provenance = checkpoint.is_mapping() ? checkpoint.get(schema::kProvenance, none) : Value(none);
  if (look_at_provenance) look_at_provenance(provenance);
  restore(items, options, checkpoint, [this](std::string message) { warn(std::move(message)); });
  step = recovered.step;
  saved = recovered.step;
  resumed_at = schema::provenance_of(checkpoint).resumed_at;
  resumed_at.push_back(step);
  if (const auto saved_metrics = checkpoint.find(schema::kMetrics)) metrics = *saved_metrics;
}

/// Of the steps up to this one: those after it are made again.
void Engine::Impl::look_up_best() {
  best.reset();
  if (!options.save_on_best) return;
  for (const CheckpointInfo& one : store.list()) {
    if (one.step > step) continue;
    const auto value = metric_of(store, one.path, options.best_metric);
    if (value && !std::isnan(*value) && (!best || is_better(*value, *best, options.best))) best = value;
  }
}

std::string Engine::Impl::what_became_of(const Damaged& damaged) const {
  if (!writes()) return "damaged and not used; left where it is";
  if (damaged.left_there.empty()) return "damaged and not used; kept as " + damaged.path;
  return "damaged and not used; it could not be renamed: " + damaged.left_there;
}

void Engine::Impl::announce(const Recovered* recovered) {
  const std::vector<std::string> odd = odd_entries(store);
  if (!odd.empty())
    warn(fmt::format("passed over in {}, for these are no files of a run: {}", directory, fmt::join(odd, ", ")));
  if (recovered == nullptr) {
    report(Event::Kind::started, fmt::format("starting at step 0 in {}", directory), 0);
    return;
  }
  for (const Damaged& one : recovered->damaged) {
    report(Event::Kind::set_aside, fmt::format("{}; {}", one.reason, what_became_of(one)), one.step, one.path);
  }
  finished = is_file(fs, path_of(names::finished(step)));
  if (finished)
    report(Event::Kind::finished, fmt::format("already finished at step {} of {}", step, directory), step,
           recovered->path);
  else
    report(Event::Kind::resumed, fmt::format("continuing at step {} of {}", step, directory), step, recovered->path);
}

}  // namespace torchkeep
