// SPDX-License-Identifier: BSD-3-Clause
// The engine of a run: its life from lock to finish. What a save, a recovery and a removal are is in commit.cpp,
// recover.cpp and retain.cpp.
#include <atomic>
#include <chrono>
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <set>
#include <vector>

#include <torchkeep/files/lock.h>
#include <torchkeep/files/publish.h>
#include <torchkeep/run/checkpoints.h>
#include <torchkeep/run/engine.h>
#include <torchkeep/run/names.h>

#include "check_options.h"
#include "metrics_log.h"
#include "places.h"
#include "provenance.h"
#include "recover.h"
#include "restore.h"
#include "retain.h"
#include "save_log.h"
#include "saver.h"
#include "stop_reason.h"

namespace torchkeep {
namespace {

using Clock = std::chrono::steady_clock;

constexpr int kNoStop = -1;  // otherwise the signal that asks for it, or 0

}  // namespace

struct Engine::Impl {
  std::string directory;
  RunOptions options;
  Fs& fs;
  std::unique_ptr<Lock> lock;
  MetricsLog log;
  SaveLog save_log;
  Retention retention;
  Saver saver;
  std::vector<TrackedItem> items;
  Value provenance = Value::mapping(Kind::dict);

  bool resumed = false;
  std::int64_t step = 0;
  Value metrics = Value::mapping(Kind::dict);  ///< of `step`
  std::optional<std::int64_t> saved;           ///< newest checkpoint that is durable and was read
  std::vector<std::int64_t> resumed_at;        ///< steps at which this run was continued, ever
  bool dirty = false;                          ///< steps were made since
  Clock::time_point last_save;
  std::optional<SaveMetrics> last_metrics;         ///< of the last save that succeeded
  std::set<std::string, std::less<>> passed_gate;  ///< since the last save
  bool take_again = false;                         ///< a save was dropped, for its state changed meanwhile
  int failures = 0;                                ///< in a row
  bool stopping = false;
  bool finished = false;
  std::atomic<int> stop_requested{kNoStop};
  static_assert(std::atomic<int>::is_always_lock_free, "request_stop() runs in signal handlers");

  Impl(std::string folder, RunOptions chosen)
      : directory(std::move(folder)),
        options(checked(std::move(chosen))),
        fs(options.fs != nullptr ? *options.fs : posix_fs()),
        log(fs, directory),
        save_log(fs, directory),
        retention(fs, directory, options),
        saver(fs, options) {}

  bool writes() const noexcept { return options.role == Role::writer; }
  std::string path_of(std::string_view name) const { return in_directory(directory, name); }

  void report(Event::Kind kind, std::string message, std::int64_t about, std::string path = {}) const {
    report({.kind = kind, .message = std::move(message), .step = about, .path = std::move(path)});
  }
  void report(const Event& event) const {
    if (options.on_event) options.on_event(event);
  }
  void warn(std::string message) const {
    if (!message.empty()) report(Event::Kind::warning, std::move(message), step);
  }

  // ---- start

  void open() {
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

  std::int64_t resume() {
    check_start();
    std::optional<Recovered> recovered;
    if (options.resume != Resume::never) {
      const auto use = [this](const Recovered& found) { take(found); };
      recovered = recover(fs, directory, options.role, use, options.verify_first);
      if (recovered) recovered->checkpoint = {};  // it holds the file open
    }
    if (!recovered && options.resume == Resume::required) {
      throw Error(Code::not_found, "no checkpoint to resume from, and Resume::required asks for one",
                  at_file(directory));
    }
    if (writes()) log.rewind(step);
    last_save = Clock::now();
    resumed = true;
    announce(recovered ? &*recovered : nullptr);
    return step;
  }

  void check_start() {
    if (resumed) throw Error(Code::invalid_argument, "this run was resumed already");
    if (items.empty()) {
      throw Error(Code::invalid_argument,
                  "nothing is tracked, so nothing would be saved; call track() before resume()");
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

  void take(const Recovered& recovered) {
    const Value checkpoint = recovered.checkpoint.from_file(recovered.path);
    restore(items, options, checkpoint, [this](std::string message) { warn(std::move(message)); });
    step = recovered.step;
    saved = recovered.step;
    resumed_at = recorded_resumes(checkpoint.is_mapping() ? checkpoint.get("provenance", none) : none);
    resumed_at.push_back(step);
    if (const auto saved_metrics = checkpoint.find("metrics")) metrics = *saved_metrics;
  }

  void announce(const Recovered* recovered) {
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

  // ---- steps

  void require_resumed() const {
    if (!resumed) throw Error(Code::invalid_argument, "call resume() first: it says at which step to begin");
  }

  void finish_step(std::int64_t next, const Value& given) {
    require_resumed();
    if (next <= step) {
      throw Error(Code::invalid_argument, fmt::format("expected a step after {}, found {}", step, next));
    }
    const Value plain = plain_metrics(given);
    const bool due = is_due(next);
    step = next;
    metrics = plain;
    dirty = true;
    finished = false;
    if (writes() && !plain.empty()) warn(log.append(step, plain));
    look();
    const bool stop = stop_requested.load() != kNoStop;
    if (writes() && (stop || due || take_again)) save(stop);
    if (stop) stop_now();
  }

  bool is_due(std::int64_t next) const {
    if (options.save_every > 0 && next / options.save_every != step / options.save_every) return true;
    return options.save_seconds > 0 &&
           std::chrono::duration<double>(Clock::now() - last_save).count() >= options.save_seconds;
  }

  void stop_now() {
    if (std::exchange(stopping, true)) return;
    report(Event::Kind::stop_requested,
           fmt::format("stopping at step {}{}; {}", step, reason_in_words(stop_requested.load()),
                       writes() && dirty ? "this step is not saved" : "run the program again to continue"),
           step);
  }

  // ---- saves

  Value state() const {
    Value checkpoint = Value::mapping(Kind::dict);
    checkpoint.set("step", step);
    for (const TrackedItem& item : items) checkpoint.set(Value::string(item.name), item.tracked.capture());
    checkpoint.set("metrics", metrics);
    checkpoint.set("provenance", provenance_now(options, {saved, resumed_at}, provenance));
    return checkpoint;
  }

  /// Starts a save of the current state. True when that worked; with `to_its_end`, when the state is saved.
  bool save(bool to_its_end) {
    settle();
    warn(log.sync());  // before the commit: a resume finds the lines of all steps up to its own
    CommitReport failed{.step = step, .path = path_of(names::checkpoint(step))};
    const bool streaming = may_stream();
    passed_gate.clear();
    take_again = false;
    last_save = Clock::now();  // also of a save that fails: the next try comes when the next one is due
    try {
      lock->confirm();
      Value checkpoint = state();
      const std::chrono::duration<double> taken = Clock::now() - last_save;
      saver.begin({step, failed.path, std::move(checkpoint), taken.count()}, streaming);
      return to_its_end || !options.background ? settle() : true;
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

  /// The first save copies everything; then memory that changes behind gates only is read where it lies, if they were
  /// all passed since the last save.
  bool may_stream() const {
    bool gated = false;
    for (const TrackedItem& item : items) {
      if (item.tracked.gated && !passed_gate.contains(item.name)) return false;
      gated = gated || item.tracked.gated;
    }
    return gated && last_metrics.has_value();
  }

  void gate(std::string_view name) {
    passed_gate.emplace(name);
    saver.gate();
  }

  /// Learns what became of the save under way, without waiting.
  void look() {
    if (const auto done = saver.poll()) collect(*done);
  }
  /// Waits for it; true unless it failed.
  bool settle() {
    const auto done = saver.wait();
    return !done || collect(*done);
  }

  bool collect(const CommitReport& done) {
    if (!done.changed.empty()) return drop(done);
    if (done.error) {
      ++failures;
      report(Event::Kind::save_failed,
             fmt::format("step {} could not be saved: {}; {}; training goes on", done.step, done.error->what(),
                         saved ? fmt::format("the newest good checkpoint is of step {}", *saved)
                               : "there is no checkpoint yet"),
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

  /// Not a failure: nobody was told that it is saved, and it is saved again.
  bool drop(const CommitReport& done) {
    take_again = true;
    warn(
        fmt::format("the checkpoint of step {} was dropped, for {} changed while it was written, outside of every step "
                    "that the run knows of: from now on copied before finish_step() returns; the state is saved again",
                    done.step, fmt::join(done.changed, ", ")));
    return false;
  }

  void give_up_after_failures() {
    if (options.stop_after_failures == 0 || failures < options.stop_after_failures || stopping) return;
    stopping = true;
    warn(fmt::format("stopping at step {}: {} saves in a row failed", step, failures));
  }

  void prune() {
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

  // ---- end

  void finish() {
    require_resumed();
    settle();
    if (writes() && (dirty || !saved)) save(true);
    if (stop_requested.load() != kNoStop) return stop_now();
    if (stopping || finished || (writes() && dirty)) return;
    finished = true;
    if (writes()) mark_finished();
    report(Event::Kind::finished, fmt::format("finished at step {} of {}", step, directory), step);
  }

  void mark_finished() {
    try {
      fs.open_write(path_of(names::finished(step)))->close();
    } catch (const Error& error) {
      warn(fmt::format("the end of the run could not be noted: {}", error.what()));
    }
  }
};

Engine::Engine(std::string directory, RunOptions options)
    : impl_(std::make_unique<Impl>(std::move(directory), std::move(options))) {
  impl_->open();
}
Engine::~Engine() = default;

void Engine::track(std::string name, Tracked tracked) {
  if (impl_->resumed) throw Error(Code::invalid_argument, fmt::format("track '{}' before resume()", name));
  if (name.empty()) throw Error(Code::invalid_argument, "expected a name for what is tracked, found an empty one");
  if (is_reserved(name)) {
    throw Error(Code::invalid_argument, fmt::format("'{}' is an entry of every checkpoint; choose another name", name));
  }
  if (is_tracked(impl_->items, name)) {
    throw Error(Code::invalid_argument, fmt::format("two objects are tracked as '{}'; give each its own name", name));
  }
  impl_->items.push_back({std::move(name), std::move(tracked)});
}

bool Engine::is_tracking() const noexcept {
  return !impl_->items.empty();
}

void Engine::add_provenance(const Value& entries) {
  for (const Entry& entry : entries.items()) impl_->provenance.set(entry.key, entry.value);
}

std::int64_t Engine::resume() {
  return impl_->resume();
}
void Engine::finish_step(std::int64_t step, const Value& metrics) {
  impl_->finish_step(step, metrics);
}
bool Engine::save_now() {
  impl_->require_resumed();
  return impl_->writes() && impl_->save(true);
}
void Engine::gate(std::string_view name) {
  impl_->gate(name);
}
void Engine::wait() {
  impl_->settle();
}
const std::optional<SaveMetrics>& Engine::last_save() const noexcept {
  return impl_->last_metrics;
}
void Engine::finish() {
  impl_->finish();
}
void Engine::request_stop(int signal) noexcept {
  impl_->stop_requested.store(signal);
}
bool Engine::stop_requested() const noexcept {
  return impl_->stop_requested.load() != kNoStop;
}
bool Engine::stopping() const noexcept {
  return impl_->stopping;
}
bool Engine::finished() const noexcept {
  return impl_->finished;
}
int Engine::exit_code() const noexcept {
  if (impl_->finished) return kExitDone;
  return impl_->writes() && impl_->failures > 0 ? kExitNotSaved : kExitAgain;
}
std::int64_t Engine::step() const noexcept {
  return impl_->step;
}
const std::string& Engine::directory() const noexcept {
  return impl_->directory;
}
const RunOptions& Engine::options() const noexcept {
  return impl_->options;
}
void Engine::report(const Event& event) const {
  impl_->report(event);
}

}  // namespace torchkeep
