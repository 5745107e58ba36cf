// SPDX-License-Identifier: BSD-3-Clause
// What an engine is made of. Its work is in three parts: engine_resume.cpp (from the lock to the first step),
// engine_save.cpp (the saves) and engine_stop.cpp (how it ends); engine.cpp has the steps and the public calls.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include <torchkeep/files/lock.h>
#include <torchkeep/run/engine.h>

#include "metrics_log.h"
#include "places.h"
#include "recover.h"
#include "restore.h"
#include "retain.h"
#include "save_log.h"
#include "saver.h"

namespace torchkeep {

using RunClock = std::chrono::steady_clock;

constexpr int kNoStop = -1;  ///< otherwise the signal that asks for it, or 0

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
  std::function<void(const Value&)> look_at_provenance;  ///< of a checkpoint

  bool resumed = false;
  std::int64_t step = 0;
  Value metrics = Value::mapping(Kind::dict);  ///< of `step`
  std::optional<std::int64_t> saved;           ///< newest checkpoint that is durable and was read
  std::vector<std::int64_t> resumed_at;        ///< steps at which this run was continued, ever
  bool dirty = false;                          ///< steps were made since
  RunClock::time_point last_save;
  std::optional<SaveMetrics> last_metrics;         ///< of the last save that succeeded
  std::set<std::string, std::less<>> passed_gate;  ///< since the last save
  bool take_again = false;                         ///< a save was dropped, for its state changed meanwhile
  int failures = 0;                                ///< in a row
  bool stopping = false;
  bool finished = false;
  std::atomic<int> stop_requested{kNoStop};
  static_assert(std::atomic<int>::is_always_lock_free, "request_stop() runs in signal handlers");

  Impl(std::string folder, RunOptions chosen);

  bool writes() const noexcept { return options.role == Role::writer; }
  std::string path_of(std::string_view name) const { return in_directory(directory, name); }

  void report(Event::Kind kind, std::string message, std::int64_t about, std::string path = {}) const;
  void report(const Event& event) const;
  void warn(std::string message) const;

  // ---- start (engine_resume.cpp)

  void open();
  std::int64_t resume();
  void check_start();
  void take(const Recovered& recovered);
  void announce(const Recovered* recovered);

  // ---- steps (engine.cpp)

  void require_resumed() const;
  void finish_step(std::int64_t next, const Value& given);
  bool is_due(std::int64_t next) const;

  // ---- saves (engine_save.cpp)

  Value state() const;
  /// Starts a save of the current state. True when that worked; with `to_its_end`, when the state is saved.
  bool save(bool to_its_end);
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
  /// Not a failure: the state was never reported as saved, and it is saved again.
  bool drop(const CommitReport& done);
  void prune();

  // ---- end (engine_stop.cpp)

  void stop_now();
  void give_up_after_failures();
  void finish();
  void mark_finished();
};

}  // namespace torchkeep
