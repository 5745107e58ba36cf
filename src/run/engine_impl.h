// SPDX-License-Identifier: BSD-3-Clause
// What an engine is made of. Its work is in three parts: engine_resume.cpp (from the lock to the first step),
// engine_save.cpp (the saves) and engine_stop.cpp (how it ends); engine.cpp has the steps and the public calls.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <sys/types.h>
#include <type_traits>
#include <utility>
#include <vector>

#include <torchkeep/run/checkpoint_store.h>
#include <torchkeep/run/engine.h>

#include "metrics_log.h"
#include "places.h"
#include "recover.h"
#include "restore.h"
#include "retain.h"
#include "run_lock.h"
#include "save_log.h"
#include "saver.h"

namespace torchkeep {

using RunClock = std::chrono::steady_clock;

constexpr int kNoStop = -1;  ///< otherwise the signal that asks for it, or 0

struct Engine::Impl {
  std::string given;  ///< the directory in the words of the user, for messages
  RunOptions options;
  Fs& fs;
  std::string directory;  ///< the same as `given`, wherever the process goes
  pid_t owner;            ///< the process that may write; a forked child may not
  std::unique_ptr<RunLock> lock;
  MetricsLog log;
  SaveLog save_log;
  CheckpointStore store;
  Retention retention;
  Saver saver;
  std::vector<TrackedItem> items;
  Value provenance = Value::mapping(Kind::dict);
  std::function<void(const Value&)> look_at_provenance;  ///< of a checkpoint

  std::deque<Event> events;  ///< not told yet
  bool in_call = false;

  bool resumed = false;
  std::int64_t step = 0;
  Value metrics = Value::mapping(Kind::dict);  ///< of `step`
  std::optional<std::int64_t> saved;           ///< newest checkpoint that is durable and was read
  std::vector<std::int64_t> resumed_at;        ///< steps at which this run was continued, ever
  bool dirty = false;                          ///< steps were made since
  bool moved = false;                          ///< the state is one of the middle of the step after `step`
  RunClock::time_point last_save;
  std::optional<SaveMetrics> last_metrics;         ///< of the last save that succeeded
  std::set<std::string, std::less<>> passed_gate;  ///< since the last save
  bool take_again = false;                         ///< the next finish_step() saves, due or not
  int failures = 0;                                ///< in a row
  std::optional<Error> last_failure;
  bool gave_up = false;  ///< stopping because of them
  bool told_child = false;
  std::optional<double> best;           ///< the best value of options.best_metric so far
  std::set<std::string> metrics_given;  ///< their names
  int saves_without_best = 0;           ///< while options.best_metric was never given
  bool stopping = false;
  bool finished = false;
  std::atomic<int> stop_requested{kNoStop};
  static_assert(std::atomic<int>::is_always_lock_free, "request_stop() runs in signal handlers");

  Impl(std::string folder, RunOptions chosen);

  bool in_child() const noexcept;
  bool writes() const noexcept { return options.role == Role::writer && !in_child(); }
  /// The state of the last finished step is on no disk.
  bool is_unsaved() const noexcept { return writes() && (dirty || !saved); }
  std::string path_of(std::string_view name) const { return in_directory(directory, name); }

  // ---- calls and events (engine.cpp)

  /// Does the work of a public call, and then tells the events: on_event finds the run as it is after the call, and
  /// what it throws leaves nothing half done.
  template <class Work>
  auto call(Work work) -> decltype(work());
  template <class Work>
  auto with_users_words(Work work) -> decltype(work());
  void tell();
  std::string in_users_words(std::string message) const;
  Error in_users_words(const Error& error) const;

  void report(Event::Kind kind, std::string message, std::int64_t about, std::string path = {});
  void report(Event event);
  void warn(std::string message);

  // ---- start (engine_resume.cpp)

  void open();
  std::int64_t resume();
  void check_start();
  void take(const Recovered& recovered);
  void look_up_best();
  std::string what_became_of(const Damaged& damaged) const;
  void announce(const Recovered* recovered);

  // ---- steps (engine.cpp)

  void require_resumed() const;
  void finish_step(std::int64_t next, const Value& given, bool is_last);
  bool is_due(std::int64_t next) const;
  /// Notes what is new in the metrics of a step; true when they are the best so far and options say to save those.
  bool note_metrics(const Value& plain);
  /// True in a forked child, which has the run's memory and not its lock.
  bool refuse_in_child();

  // ---- saves (engine_save.cpp)

  Value state() const;
  /// Starts a save of the current state. True when that worked; with `to_its_end`, when the state is saved.
  bool save(bool to_its_end);
  bool save_now();
  /// Nothing: it is under way. Throws what is no failure of a save, such as an interruption.
  std::optional<CommitReport> begin_save();
  using Names = std::set<std::string, std::less<>>;
  /// The memory that is read where it lies: what belongs to those that passed their gate since the last save. The first
  /// save copies everything.
  Saver::Identities may_stream(const Names& passed, const Value& checkpoint) const;
  void gate(std::string_view name);
  /// Learns what became of the save under way, without waiting.
  void look();
  /// Waits for it; true unless it failed.
  bool settle();
  bool collect(const CommitReport& done);
  bool collect_failure(const CommitReport& done);
  void look_for_best_metric();
  /// Not a failure: the state was never reported as saved, and it is saved again.
  bool drop(const CommitReport& done);
  void prune();

  // ---- end (engine_stop.cpp)

  void stop_now();
  void give_up_after_failures();
  void save_last();
  void finish(bool complete);
  void mark_finished();
  void require_saved() const;
};

template <class Work>
auto Engine::Impl::call(Work work) -> decltype(work()) {
  struct Scope {
    bool& flag;
    bool before;
    explicit Scope(bool& in_call) : flag(in_call), before(std::exchange(in_call, true)) {}
    Scope(const Scope&) = delete;
    Scope& operator=(const Scope&) = delete;
    ~Scope() { flag = before; }
  } const scope(in_call);
  if constexpr (std::is_void_v<decltype(work())>) {
    with_users_words(work);
    if (!scope.before) tell();
  } else {
    auto result = with_users_words(work);
    if (!scope.before) tell();
    return result;
  }
}

template <class Work>
auto Engine::Impl::with_users_words(Work work) -> decltype(work()) {
  try {
    return work();
  } catch (const Error& error) {
    if (directory == given) throw;
    throw in_users_words(error);
  }
}

}  // namespace torchkeep
