// SPDX-License-Identifier: BSD-3-Clause
// How a run ends: at its last step, when a stop is asked for, or when saving has become impossible.
#include <fmt/format.h>

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
  warn(fmt::format("stopping at step {}: {} saves in a row failed", step, failures));
}

void Engine::Impl::finish() {
  require_resumed();
  settle();
  if (writes() && (dirty || !saved)) save(true);
  if (stop_requested.load() != kNoStop) return stop_now();
  if (stopping || finished || (writes() && dirty)) return;
  finished = true;
  if (writes()) mark_finished();
  report(Event::Kind::finished, fmt::format("finished at step {} of {}", step, directory), step);
}

void Engine::Impl::mark_finished() {
  try {
    fs.open_write(path_of(names::finished(step)))->close();
  } catch (const Error& error) {
    warn(fmt::format("the end of the run could not be noted: {}", error.what()));
  }
}

}  // namespace torchkeep
