// SPDX-License-Identifier: BSD-3-Clause
// Saves one state at a time: on the caller's thread, or on one of its own while the caller trains on.
//
//   the training's thread   begin | ... training ... | gate | step | ...            | poll: the report
//   the writer's thread           | write, sync, read back | wait for the consent | rename, sync
//
// Consent is given by the training's thread alone, after the last byte of live memory was read: when the marks and
// checksums of all that was read there are as they were at begin(). Otherwise the file is dropped.
#pragma once

#include <memory>
#include <optional>
#include <set>
#include <string>
#include <sys/types.h>
#include <unordered_map>

#include "commit.h"
#include "snapshot.h"

namespace torchkeep {

/// All calls come from one thread, that of the training. In a forked child nothing happens: the parent saves.
class Saver final {
 public:
  /// `options` must outlive it.
  Saver(Fs& fs, const RunOptions& options);
  /// Waits for a save that has consent and drops one that has not.
  ~Saver();
  Saver(const Saver&) = delete;
  Saver& operator=(const Saver&) = delete;

  /// Starts a save; none must be under way. With `streaming`, watched memory is read while the training goes on, and
  /// gate() is called before it changes; else all live memory is copied first. Throws what reading live memory throws.
  void begin(const CommitRequest& request, bool streaming);
  /// Live memory is about to change: sets aside what is still unread of it, and decides about the save under way.
  void gate();
  /// The report of a save that came to its end; does not wait.
  std::optional<CommitReport> poll();
  /// Waits for the save under way, if any.
  std::optional<CommitReport> wait();

 private:
  struct Job;

  bool in_child() const noexcept;
  void begin_in_background(const CommitRequest& request, bool streaming);
  std::shared_ptr<Snapshot> take_snapshot(const CommitRequest& request, bool streaming, Value& frozen);
  void start_writer(CommitRequest frozen);
  void decide();
  void drop() noexcept;
  CommitReport finish();

  Fs& fs_;
  const RunOptions& options_;
  pid_t owner_;
  Staging staging_;
  std::unique_ptr<Job> job_;                                        ///< destroyed before the staging memory
  std::set<std::string> restless_;                                  ///< key paths of what changed during a save
  std::unordered_map<const void*, WatchedStorage::Mark> previous_;  ///< marks at the save before
};

}  // namespace torchkeep
