// SPDX-License-Identifier: BSD-3-Clause
// How a run ends: at its last step, when a stop is asked for, or when saving has become impossible.
#include <fmt/format.h>

#include <torchkeep/files/publish.h>
#include <torchkeep/run/names.h>

#include "engine_impl.h"
#include "stop_reason.h"

namespace torchkeep {

void Engine::Impl::stop_now() {
  if (std::exchange(stopping, true)) return;
  report(Event::Kind::stop_requested,
         fmt::format("stopping at step {}{}; {}", step, reason_in_words(stop_requested.load()),
                     writes() && dirty ? "this step is not saved" : "run the program again to continue"),
         step);
}

void Engine::Impl::give_up_after_failures() {
  if (options.stop_after_failures == 0 || failures < options.stop_after_failures || stopping) return;
  stopping = true;
  gave_up = true;
  warn(fmt::format(
      "stopping at step {}: {} saves in a row failed, so nothing of what follows would be kept; the last: {}", step,
      failures, last_failure->what()));
}

void Engine::Impl::save_last() {
  require_resumed();
  if (refuse_in_child()) return;
  settle();
  if (is_unsaved() && moved) {
    warn(fmt::format(
        "the loop was left in the middle of the step after {}, whose state is gone by now and was not saved; {}", step,
        saved ? fmt::format("the newest checkpoint is of step {}", *saved) : "there is no checkpoint"));
  } else if (is_unsaved()) {
    save(true);
  }
}

void Engine::Impl::finish(bool complete) {
  save_last();
  if (options.role == Role::writer && in_child()) return;
  if (stop_requested.load() != kNoStop && !complete) return stop_now();
  if (finished || is_unsaved() || (stopping && !complete)) return;
  finished = true;
  if (writes()) mark_finished();
  report(Event::Kind::finished, fmt::format("finished at step {} of {}", step, directory), step);
}

void Engine::Impl::mark_finished() {
  try {
    mark(fs, path_of(names::finished(step)));
  } catch (const Error& error) {
    warn(fmt::format("the end of the run could not be noted: {}", error.what()));
  }
}

void Engine::Impl::require_saved() const {
  if (!last_failure || !writes() || (saved && !gave_up)) return;
  const std::string what = gave_up ? fmt::format("stopped at step {}: {} saves in a row failed", step, failures)
                                   : fmt::format("no save up to step {} has worked", step);
  throw Error(Code::io,
              fmt::format("{}, and {}; the last one: {}", what,
                          saved ? fmt::format("the newest checkpoint is of step {}", *saved) : "there is no checkpoint",
                          last_failure->what()),
              at_file(directory))
      .with_errno(last_failure->system_error())
      .caused_by(last_failure->cause());
}

}  // namespace torchkeep
