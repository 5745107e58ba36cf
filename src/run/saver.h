// SPDX-License-Identifier: BSD-3-Clause
// Saves one state at a time: on the caller's thread, or on one of its own while the caller trains on.
//
//   the training's thread   begin: hash | ... training ... | gate | step | ...          | poll: the report
//   the writer's thread                 | write, sync, read back | decision | rename, sync
//
// Proof::hash: the writer publishes when all bytes it wrote have the hash that they had at begin(). Proof::counters:
// the training's thread does, after the last byte of live memory was read, when the marks and checksums of all that was
// read there are as they were at begin(). Otherwise the file is dropped.
#pragma once

#include <memory>
#include <optional>
#include <set>
#include <string>
#include <sys/types.h>
#include <unordered_map>
#include <unordered_set>

#include "commit.h"
#include "snapshot.h"

namespace torchkeep {

/// All calls come from one thread, that of the training. In a forked child nothing happens: the parent saves.
class Saver final {
 public:
  /// `store` and `options` must outlive it.
  Saver(const CheckpointStore& store, const RunOptions& options);
  /// Waits for a save that may be published and drops one that may not yet.
  ~Saver();
  Saver(const Saver&) = delete;
  Saver& operator=(const Saver&) = delete;

  using Identities = std::unordered_set<const void*>;
  /// Starts a save; none must be under way. `streamable` memory may be read while the training goes on, and gate() is
  /// called before it changes; all other live memory is copied first. Throws what reading live memory throws.
  void begin(const CommitRequest& request, const Identities& streamable);
  /// Live memory is about to change: sets aside what is still unread of it.
  void gate();
  /// The report of a save that came to its end; does not wait.
  std::optional<CommitReport> poll();
  /// Waits for the save under way, if any.
  std::optional<CommitReport> wait();

 private:
  struct Job;

  bool in_child() const noexcept;
  void begin_in_background(const CommitRequest& request, const Identities& streamable);
  std::shared_ptr<Snapshot> take_snapshot(const CommitRequest& request, const Identities& streamable, Value& frozen);
  bool is_streaming_worth_it() const;
  void start_writer(CommitRequest frozen);
  void decide();
  void drop() noexcept;
  void note_changed();
  CommitReport finish();

  const CheckpointStore& store_;
  const RunOptions& options_;
  pid_t owner_;
  Staging staging_;
  std::unique_ptr<Job> job_;      ///< destroyed before the staging memory
  std::set<std::string> copied_;  ///< key paths of what changed during a save
  int dropped_ = 0;
  double unread_at_gate_ = 0;     ///< which share of the last state was unread when a gate was passed
  std::uint64_t state_size_ = 0;  ///< of that state
  std::unordered_map<const void*, WatchedStorage::Mark> previous_;  ///< marks at the save before
};

}  // namespace torchkeep
