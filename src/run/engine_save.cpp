// SPDX-License-Identifier: BSD-3-Clause
// The saves of a run: taken, started, and what became of them.
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <torchkeep/run/names.h>
#include <torchkeep/state/walk.h>

#include "engine_impl.h"
#include "entries.h"
#include "provenance.h"

namespace torchkeep {

Value Engine::Impl::state() const {
  Value checkpoint = Value::mapping(Kind::dict);
  checkpoint.set(schema::kStep, step);
  checkpoint.set(schema::kLayout, schema::kLayoutVersion);
  for (const TrackedItem& item : items) checkpoint.set(Value::string(item.name), capture(item));
  checkpoint.set(schema::kMetrics, metrics);
  checkpoint.set(schema::kProvenance, schema::to_value(provenance_now(options, {saved, resumed_at}), provenance));
  return checkpoint;
}

bool Engine::Impl::save_now() {
  require_resumed();
  if (refuse_in_child() || !writes()) return false;
  settle();
  if (!is_unsaved()) return true;  // what stands there is the state at the end of the step; this one may be a later one
  if (!moved) return save(true);
  take_again = true;
  warn(
      fmt::format("save_now() was called in the middle of the step after {}, whose state is gone by now: the next "
                  "finish_step() saves",
                  step));
  return false;
}

bool Engine::Impl::save(bool to_its_end) {
  take_again = true;  // until it has begun: what interrupts this call leaves the save to the next one
  settle();
  warn(log.sync());  // before the commit: a resume finds the lines of all steps up to its own
  const auto failed = begin_save();
  take_again = false;
  if (failed) return collect(*failed);
  if (!to_its_end && options.background) return true;
  // What was dropped is taken again at once. No gate was passed meanwhile: so all of it is copied, and kept.
  return settle() || (take_again && save(true));
}

std::optional<CommitReport> Engine::Impl::begin_save() {
  CommitReport failed{.step = step, .path = store.path_of(step)};
  const Names passed = std::exchange(passed_gate, {});
  last_save = RunClock::now();  // also of a save that fails: the next try comes when the next one is due
  try {
    lock->confirm();
    Value checkpoint = state();
    const std::chrono::duration<double> taken = RunClock::now() - last_save;
    const Saver::Identities streamable = may_stream(passed, checkpoint);
    saver.begin({step, std::move(checkpoint), taken.count()}, streamable);
    return std::nullopt;
  } catch (const Error& error) {
    failed.error = error;
  } catch (const std::exception& error) {  // of a tracked object, or no memory for its state
    failed.error = Error(Code::io, fmt::format("the state could not be taken: {}", error.what()))
                       .caused_by(std::current_exception());
  }
  return failed;
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
  moved = resumed;
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
  if (done.error) return collect_failure(done);
  failures = 0;
  last_failure.reset();
  dirty = dirty && done.step != step;
  saved = done.step;
  retention.forget(done.step);
  last_metrics = SaveMetrics{.step = done.step,
                             .bytes = done.bytes,
                             .seconds = done.seconds,
                             .blocked_seconds = done.blocked_seconds,
                             .staged_bytes = done.staged_bytes,
                             .background = done.background};
  report({.kind = Event::Kind::saved,
          .message = fmt::format("saved {} ({} bytes in {:.3f} s)", done.path, done.bytes, done.seconds),
          .step = done.step,
          .path = done.path,
          .bytes = done.bytes,
          .seconds = done.seconds,
          .blocked_seconds = done.blocked_seconds,
          .staged_bytes = done.staged_bytes});
  save_log.append(*last_metrics);
  prune();
  look_for_best_metric();
  return true;
}

bool Engine::Impl::collect_failure(const CommitReport& done) {
  ++failures;
  last_failure = *done.error;
  report({.kind = Event::Kind::save_failed,
          .message = fmt::format(
              "step {} could not be saved: {}; {}; training goes on", done.step, done.error->what(),
              saved ? fmt::format("the newest good checkpoint is of step {}", *saved) : "there is no checkpoint yet"),
          .step = done.step,
          .path = done.path,
          .error = done.error});
  give_up_after_failures();
  return false;
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

void Engine::Impl::look_for_best_metric() {
  constexpr int kPatience = 2;  // saves: the first may come before the first evaluation
  if (options.best_metric.empty() || metrics_given.contains(options.best_metric)) return;
  if (++saves_without_best != kPatience) return;
  warn(fmt::format("no finish_step() has given the metric '{}' yet, so no checkpoint is the best one; given {}",
                   options.best_metric,
                   metrics_given.empty() ? "was none" : fmt::format("were '{}'", fmt::join(metrics_given, "', '"))));
}

void Engine::Impl::prune() {
  try {
    for (const std::int64_t removed : retention.apply(*saved)) {
      report(Event::Kind::pruned, fmt::format("removed the checkpoint of step {}", removed), removed,
             store.path_of(removed));
    }
    for (const std::string& name : fs.list(directory)) {
      const auto end = names::parse_finished(name);
      if (end && *end != *saved && is_file(fs, path_of(name))) fs.remove(path_of(name));
    }
  } catch (const Error& error) {
    warn(fmt::format("old checkpoints could not all be removed: {}", error.what()));
  }
}

}  // namespace torchkeep
