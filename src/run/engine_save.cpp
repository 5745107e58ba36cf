// SPDX-License-Identifier: BSD-3-Clause
// The saves of a run: taken, started, and what became of them.
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <torchkeep/run/names.h>
#include <torchkeep/state/walk.h>

#include "engine_impl.h"
#include "provenance.h"

namespace torchkeep {

Value Engine::Impl::state() const {
  Value checkpoint = Value::mapping(Kind::dict);
  checkpoint.set("step", step);
  for (const TrackedItem& item : items) checkpoint.set(Value::string(item.name), item.tracked.capture());
  checkpoint.set("metrics", metrics);
  checkpoint.set("provenance", provenance_now(options, {saved, resumed_at}, provenance));
  return checkpoint;
}

bool Engine::Impl::save(bool to_its_end) {
  settle();
  warn(log.sync());  // before the commit: a resume finds the lines of all steps up to its own
  CommitReport failed{.step = step, .path = path_of(names::checkpoint(step))};
  const Names passed = std::exchange(passed_gate, {});
  take_again = false;
  last_save = RunClock::now();  // also of a save that fails: the next try comes when the next one is due
  try {
    lock->confirm();
    Value checkpoint = state();
    const std::chrono::duration<double> taken = RunClock::now() - last_save;
    const Saver::Identities streamable = may_stream(passed, checkpoint);
    saver.begin({step, failed.path, std::move(checkpoint), taken.count()}, streamable);
    if (!to_its_end && options.background) return true;
    // What was dropped is taken again at once. No gate was passed meanwhile: so all of it is copied, and kept.
    return settle() || (take_again && save(true));
  } catch (const Error& error) {
    failed.error = error;
  } catch (const std::exception& error) {  // of a tracked object, or no memory for its state
    failed.error = Error(Code::io, fmt::format("the state could not be taken: {}", error.what()));
  } catch (...) {  // what while_waiting throws: the caller gives up, and nothing is saved
    take_again = true;
    throw;
  }
  return collect(failed);
}

Saver::Identities Engine::Impl::may_stream(const Names& passed, const Value& checkpoint) const {
  Saver::Identities streamable;
  if (!options.background || !last_metrics) return streamable;
  for (const TrackedItem& item : items) {
    if (!item.tracked.gated || !passed.contains(item.name)) continue;
    for (const void* const owned : item.tracked.gated()) streamable.insert(owned);
    walk(checkpoint.at(Value::string(item.name)), [&](const Visit& visit) {
      if (visit.value.is(Kind::tensor)) streamable.insert(visit.value.as_tensor().storage->identity());
      return Next::inside;
    });
  }
  for (const TrackedItem& item : items) {
    if (!item.tracked.ungated) continue;
    for (const void* const written : item.tracked.ungated()) streamable.erase(written);
  }
  return streamable;
}

void Engine::Impl::gate(std::string_view name) {
  passed_gate.emplace(name);
  saver.gate();
}

void Engine::Impl::look() {
  if (const auto done = saver.poll()) collect(*done);
}
bool Engine::Impl::settle() {
  const auto done = saver.wait();
  return !done || collect(*done);
}

bool Engine::Impl::collect(const CommitReport& done) {
  if (!done.changed.empty()) return drop(done);
  if (done.error) {
    ++failures;
    report(Event::Kind::save_failed,
           fmt::format(
               "step {} could not be saved: {}; {}; training goes on", done.step, done.error->what(),
               saved ? fmt::format("the newest good checkpoint is of step {}", *saved) : "there is no checkpoint yet"),
           done.step, done.path);
    give_up_after_failures();
    return false;
  }
  failures = 0;
  dirty = dirty && done.step != step;
  saved = done.step;
  retention.forget(done.step);
  last_metrics = SaveMetrics{.step = done.step,
                             .bytes = done.bytes,
                             .seconds = done.seconds,
                             .blocked_seconds = done.blocked_seconds,
                             .staged_bytes = done.staged_bytes,
                             .background = done.background};
  save_log.append(*last_metrics);
  report({.kind = Event::Kind::saved,
          .message = fmt::format("saved {} ({} bytes in {:.3f} s)", done.path, done.bytes, done.seconds),
          .step = done.step,
          .path = done.path,
          .bytes = done.bytes,
          .seconds = done.seconds,
          .blocked_seconds = done.blocked_seconds,
          .staged_bytes = done.staged_bytes});
  prune();
  return true;
}

bool Engine::Impl::drop(const CommitReport& done) {
  take_again = true;
  warn(
      fmt::format("the checkpoint of step {} was dropped, for {} changed while it was written, outside of every step "
                  "that the run knows of: from now on {} copied before finish_step() returns; the state is saved again",
                  done.step, fmt::join(done.changed, ", "),
                  done.copies_all            ? "the whole state is"
                  : done.changed.size() == 1 ? "it is"
                                             : "they are"));
  return false;
}

void Engine::Impl::prune() {
  try {
    for (const std::int64_t removed : retention.apply(*saved)) {
      report(Event::Kind::pruned, fmt::format("removed the checkpoint of step {}", removed), removed,
             path_of(names::checkpoint(removed)));
    }
    for (const std::string& name : fs.list(directory)) {
      const auto end = names::parse_finished(name);
      if (end && *end != *saved) fs.remove(path_of(name));
    }
  } catch (const Error& error) {
    warn(fmt::format("old checkpoints could not all be removed: {}", error.what()));
  }
}

}  // namespace torchkeep
