// SPDX-License-Identifier: BSD-3-Clause
// The engine of a run, which knows neither LibTorch nor Python: what to save, when, and how to come back.
#pragma once

#include <concepts>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include <torchkeep/run/options.h>
#include <torchkeep/state/value.h>

namespace torchkeep {

/// What puts a saved state into something.
struct Change {
  Change() = default;
  template <class Make>
  requires std::invocable<Make&> &&(!std::same_as<std::remove_cvref_t<Make>, Change>)Change(Make put_in)
      : make(std::move(put_in)) {}  // NOLINT(google-explicit-constructor): most are no more than this

  std::function<void()> make;
  /// Puts back what was there before make(), also after one that threw; does nothing before it. Empty: it cannot.
  std::function<void()> undo;
  /// False: only make() itself can tell whether the state fits.
  bool checked = true;
};

/// Something whose state is part of every checkpoint, under one name.
struct Tracked {
  /// Its state now. May alias live memory.
  std::function<Value()> capture;
  /// Checks all of a saved state without changing anything (throws Error when it does not fit) and returns the change
  /// that puts it in. Called for all tracked things before the first of these changes is made.
  std::function<Change(const Value&)> prepare;
  /// False: a checkpoint without it is fine.
  bool required = true;
  /// False: prepare() cannot check, only the change itself can fail. Such changes (and those with `checked` false) are
  /// made first, so that an error leaves everything as it was.
  bool checks = true;
  /// Not empty: this steps, and passes gate(name) before it does. Gives the identities (Storage::identity()) of memory
  /// of others that it owns, such as an optimizer's parameters; what its own capture() shows is its own too. A save in
  /// the background reads such memory while the training goes on, and copies all other at once.
  std::function<std::vector<const void*>()> gated = {};
  /// The identities of memory that changes outside of every step, such as buffers: always copied, whoever owns it.
  std::function<std::vector<const void*>()> ungated = {};
  /// True: restored after all others, whatever the order of the track() calls.
  bool last = false;
};

/// One run in one directory. Use: construct, track everything, resume, then finish_step after every step, finish.
/// All calls but request_stop and stop_requested come from one thread.
class Engine final {
 public:
  /// A writer creates the directory, locks it and removes what a killed process left behind. Throws Error: busy
  /// (another process writes there), io, invalid_argument (senseless options).
  Engine(std::string directory, RunOptions options);
  ~Engine();
  Engine(const Engine&) = delete;
  Engine& operator=(const Engine&) = delete;

  /// Adds something to every checkpoint. Throws Error (invalid_argument): a name twice, a reserved or empty one
  /// ("step", "metrics" and "provenance" are the engine's), after resume().
  void track(std::string name, Tracked tracked);
  /// True when something is tracked.
  bool is_tracking() const noexcept;
  /// Entries that "provenance" gets besides the engine's own (library versions).
  void add_provenance(const Value& entries);
  /// resume() hands the "provenance" of the checkpoint that it is about to check to this function.
  void on_provenance(std::function<void(const Value&)> look);

  /// Continues from the newest checkpoint that verifies and returns its step, or 0 at the beginning. Damaged newer ones
  /// are renamed, kept and reported. Throws Error: not_found (Resume::required and none there), corrupt (all are
  /// damaged; lists each with its reason), unsupported or refused (the newest is whole and this version does not read
  /// it, such as one of a later version: the message says which is needed, and nothing was changed), mismatch (the
  /// checkpoint does not fit what is tracked; lists everything, and nothing was changed), invalid_argument (nothing
  /// tracked; Resume::never and some there), io. After an error it can be called again.
  std::int64_t resume();
  /// True once resume() has returned.
  bool is_resumed() const noexcept;

  /// To be called before what is tracked as `name` changes its own and other watched memory: what a save under way
  /// still needs of it is copied aside. Another name, or an empty one, guards the same.
  /// From then on the state is one of the middle of a step: nothing is saved before the next finish_step().
  void gate(std::string_view name = {});
  /// Says the same of the state, where a loop begins a step.
  void begin_step() noexcept;
  /// Whether finish_step(step) saves because it is time to, by steps or by the clock.
  bool is_due(std::int64_t step) const;
  /// The next finish_step() saves, due or not. Nothing for a reader.
  void save_next() noexcept;
  /// Notes that `step` (larger than the last) is done: logs its metrics, starts a save when that is due. `metrics` is a
  /// dict of numbers and texts, or None. Failing saves are events, not errors; of a save in the background they come
  /// out of the next call. `is_last`: no step follows, so this one is saved before the call returns; whatever changes
  /// the state afterwards, before finish(), is not in its checkpoint.
  void finish_step(std::int64_t step, const Value& metrics = {}, bool is_last = false);
  /// Saves the state of the last finished step and waits until that is done; true when it is saved, now or before: the
  /// checkpoint of a step is never written anew. False when that failed (an event says why), in the middle of a step
  /// (then its finish_step() saves), and for a reader.
  bool save_now();
  /// Returns when no save is under way. Live memory must not have changed in the middle of a step.
  void wait();
  /// The last save that succeeded.
  const std::optional<SaveMetrics>& last_save() const noexcept;
  /// Saves the state of the last finished step unless that is done, at the end of a loop that was left early. In the
  /// middle of a step nothing is saved, and a warning says so.
  void save_last();
  /// save_last(), and notes that training is over (not after a stop request, unless
  /// `complete` says that the last step was reached all the same).
  void finish(bool complete = false);
  /// The newest step whose checkpoint is durable; nothing before the first.
  const std::optional<std::int64_t>& saved() const noexcept;
  /// Throws Error (io) when saving has failed for good: options().stop_after_failures saves in a row, or every one
  /// since the beginning.
  void require_saved() const;

  /// Asks for a stop at the end of the current step; `signal` is the one that asks, if any. Safe in a signal handler
  /// and from any thread.
  void request_stop(int signal = 0) noexcept;
  bool stop_requested() const noexcept;
  /// True once a requested stop took effect: the state is saved, leave the loop.
  bool stopping() const noexcept;
  /// True when finish() was reached at the last step, in this process or an earlier one.
  bool finished() const noexcept;
  /// See ExitCode.
  int exit_code() const noexcept;

  /// The last finished step; after resume() the one it returned.
  std::int64_t step() const noexcept;
  const std::string& directory() const noexcept;
  const RunOptions& options() const noexcept;
  /// Hands an event to RunOptions::on_event; in the middle of a call of this engine, when that call is done.
  void report(const Event& event);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace torchkeep
