// SPDX-License-Identifier: BSD-3-Clause
// From the lock to the first step: what a killed process left behind, and the checkpoint that the run continues from.
#include <fmt/format.h>

#include <torchkeep/files/publish.h>
#include <torchkeep/run/checkpoints.h>
#include <torchkeep/run/names.h>

#include "engine_impl.h"
#include "provenance.h"

namespace torchkeep {

void Engine::Impl::open() {
  if (!writes()) return;
  make_directories(fs, directory);
  lock = std::make_unique<Lock>(fs, path_of(names::kLock), "open the run with Role::reader to read it");
  restore_doomed(fs, directory);
  const std::size_t removed = remove_temporaries(fs, directory);
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
    recovered = recover(fs, directory, options.role, use, options.verify_first);
    if (recovered) recovered->checkpoint = {};  // it holds the file open
  }
  if (!recovered && options.resume == Resume::required) {
    throw Error(Code::not_found, "no checkpoint to resume from, and Resume::required asks for one", at_file(directory));
  }
  if (writes()) log.rewind(step);
  last_save = RunClock::now();
  resumed = true;
  announce(recovered ? &*recovered : nullptr);
  return step;
}

void Engine::Impl::check_start() {
  if (resumed) throw Error(Code::invalid_argument, "this run was resumed already");
  if (items.empty()) {
    throw Error(Code::invalid_argument, "nothing is tracked, so nothing would be saved; call track() before resume()");
  }
  const auto there = list_checkpoints(directory, fs);
  if (options.resume == Resume::never && !there.empty()) {
    throw Error(Code::invalid_argument,
                fmt::format("holds checkpoints up to step {}, and Resume::never would mix two runs; choose another "
                            "folder, or move them away",
                            there.back().step),
                at_file(directory));
  }
  // What cannot be captured would make every save fail: better to say so before the first step.
  for (const TrackedItem& item : items) item.tracked.capture();
}

void Engine::Impl::take(const Recovered& recovered) {
  const Value checkpoint = recovered.checkpoint.from_file(recovered.path);
  const Value provenance = checkpoint.is_mapping() ? checkpoint.get("provenance", none) : Value(none);
  if (look_at_provenance) look_at_provenance(provenance);
  restore(items, options, checkpoint, [this](std::string message) { warn(std::move(message)); });
  step = recovered.step;
  saved = recovered.step;
  resumed_at = recorded_resumes(provenance);
  resumed_at.push_back(step);
  if (const auto saved_metrics = checkpoint.find("metrics")) metrics = *saved_metrics;
}

void Engine::Impl::announce(const Recovered* recovered) {
  if (recovered == nullptr) {
    report(Event::Kind::started, fmt::format("starting at step 0 in {}", directory), 0);
    return;
  }
  for (const Damaged& one : recovered->damaged) {
    const bool renamed = writes() && one.left_there.empty();
    report(Event::Kind::set_aside,
           fmt::format("damaged and not used: {}; {}", one.reason,
                       renamed ? "kept as " + one.path
                               : (writes() ? "it could not be renamed: " + one.left_there : "left where it is")),
           one.step, one.path);
  }
  finished = fs.status(path_of(names::finished(step))).has_value();
  if (finished)
    report(Event::Kind::finished, fmt::format("already finished at step {} of {}", step, directory), step,
           recovered->path);
  else
    report(Event::Kind::resumed, fmt::format("continuing at step {} of {}", step, directory), step, recovered->path);
}

}  // namespace torchkeep
