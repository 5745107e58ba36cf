// SPDX-License-Identifier: BSD-3-Clause
// How a run saves, what it keeps, how it starts, and what it reports.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include <torchkeep/base/error.h>
#include <torchkeep/files/fs.h>
#include <torchkeep/files/lock.h>
#include <torchkeep/run/retention.h>

namespace torchkeep {

/// Whether a run continues from the checkpoints in its directory.
enum class Resume : std::uint8_t {
  if_any,    ///< from the newest that verifies; from the beginning when there is none
  required,  ///< no checkpoint is an error
  never,     ///< from the beginning; a directory that holds checkpoints is an error, for nothing is ever overwritten
};

/// What a process does in a run directory.
enum class Role : std::uint8_t {
  writer,  ///< the one process that saves
  reader,  ///< resumes and never writes: the other ranks of a job, an evaluation
};

/// How messages write an option: `RunOptions::role = Role::reader`, or `role="reader"`.
enum class Spelling : std::uint8_t { cpp, python };

/// How a save in the background proves that what it wrote from live memory is the state at finish_step().
enum class Proof : std::uint8_t {
  /// finish_step() reads that memory once, by all cores, and takes a hash; a checkpoint is published only if the bytes
  /// that were written have the same. So it is the state at finish_step() byte for byte, whoever writes to the memory,
  /// whenever, counted or not.
  hash,
  /// finish_step() reads nothing. Version counters and addresses are compared before a checkpoint is published: it is
  /// the state at finish_step() if that memory changes only inside steps that pass the gate (run.step()) and by
  /// in-place operations that PyTorch counts. What raises no counter (`.data`, NumPy, raw pointers, fused kernels) is
  /// found only where a counter stood still over a whole step; else a checkpoint may hold other bytes, without a word.
  counters,
};

/// Something that happened in a run.
struct Event {
  enum class Kind : std::uint8_t {
    cleaned,         ///< unfinished files of a killed process were removed
    started,         ///< from the beginning
    resumed,         ///< continuing at `step`
    set_aside,       ///< a damaged checkpoint was renamed to `path`; an older one is used
    saved,           ///< `path` is durable and was read back
    save_failed,     ///< training goes on; the last good checkpoint is intact
    pruned,          ///< the checkpoint of `step` was removed, as the options say
    stop_requested,  ///< a signal or request_stop(): saved, and stopping() is true
    finished,        ///< finish() was reached, now or in an earlier process
    warning,         ///< something is likely to be lost or is not as it should be
  };
  Kind kind = Kind::warning;
  std::string message = {};         ///< one line for people, with the file and numbers; the directory as it was given
  std::int64_t step = 0;            ///< the step it is about
  std::string path = {};            ///< the file it is about, if any; valid whatever the working directory is by now
  std::uint64_t bytes = 0;          ///< of `saved`: size of the file
  double seconds = 0;               ///< of `saved`: how long it took
  std::uint64_t count = 0;          ///< of `cleaned`: number of files
  double blocked_seconds = 0;       ///< of `saved`: how long the training waited for it
  std::uint64_t staged_bytes = 0;   ///< of `saved`: bytes that were copied aside
  std::optional<Error> error = {};  ///< of `save_failed`: why, with the exception that led to it

  /// Whether somebody should look at it.
  bool is_warning() const noexcept {
    return kind == Kind::set_aside || kind == Kind::save_failed || kind == Kind::warning;
  }
};

/// What a save cost.
struct SaveMetrics {
  std::int64_t step = 0;
  std::uint64_t bytes = 0;         ///< size of the file
  double seconds = 0;              ///< from its first byte to its name, syncs and reading back included
  double blocked_seconds = 0;      ///< that the training waited, in finish_step(), step() and others
  std::uint64_t staged_bytes = 0;  ///< copied aside, because they were about to change
  bool background = false;         ///< it was written while the training went on

  double bytes_per_second() const noexcept { return seconds > 0 ? static_cast<double>(bytes) / seconds : 0; }
};

/// Options of a run. All may be changed from one start of a run to the next.
struct RunOptions {
  // ---- when to save (besides save_now(), a stop request, and finish()) ----

  /// Every so many steps; 0: not by steps.
  std::int64_t save_every = 0;
  /// When so many seconds have passed since the last save; 0: not by time, unless save_every is 0 too: then 600.
  double save_seconds = 0;
  /// Also whenever `best_metric` is better than at every step before (of the whole run, as far as its checkpoints
  /// tell). Then keep_best is at least 1.
  bool save_on_best = false;

  // ---- what to keep (pinned checkpoints and the newest are always kept) ----

  /// The newest so many; 0: all.
  std::int64_t keep_last = 3;
  /// Every checkpoint whose step is a multiple of this; 0: none.
  std::int64_t keep_every = 0;
  /// The best so many by `best_metric`, of the steps that were saved; 0: none. NaN is never best; of equals the older
  /// is better. A metric that is given at other steps than those that save is not in any checkpoint: see save_on_best.
  std::int64_t keep_best = 0;
  /// Name of the metric (as given to finish_step) that keep_best and "best" go by.
  std::string best_metric = {};
  Best best = Best::min;

  // ---- how to start ----

  Resume resume = Resume::if_any;
  Role role = Role::writer;
  /// Names that a checkpoint may lack because they are tracked only since: they start fresh, with a warning.
  /// Without that, a checkpoint that lacks something tracked is an error.
  std::vector<std::string> may_be_missing = {};

  // ---- what to save besides the tracked objects (the fronts do this) ----

  /// The random generators: the CPU's and every CUDA device's.
  bool rng = true;
  /// Resume with another number of CUDA devices too: those on both sides get their generators back.
  bool any_devices = false;
  /// Accumulated gradients, for a finish_step() between two optimizer steps.
  bool gradients = false;

  // ---- safety ----

  /// SIGTERM, SIGINT and SIGUSR1 ask for a stop (the fronts install handlers).
  bool signals = true;
  /// Wait for the disk: a checkpoint is counted as saved when it survives a power cut. False: a power cut (but no kill)
  /// may cost checkpoints that were told saved.
  bool durable = true;
  /// Read every checkpoint back and check each CRC before its name appears.
  bool read_back = true;
  /// Ask the training to stop after so many failed saves in a row, for nothing of it would be left; 0: never.
  int stop_after_failures = 5;

  /// resume() reads a checkpoint straight into what is tracked and checks it on the way; one that turns out damaged in
  /// the middle leaves that half changed, until the next older one is loaded over it, whole. True: check every
  /// checkpoint before the first byte is changed, which takes twice the reading.
  bool verify_first = false;

  // ---- while the training goes on ----

  /// Write checkpoints on a thread of their own; one at a time. False: finish_step() returns when the file is there.
  bool background = true;
  /// Bytes that a save may copy aside at once (in blocks of 16 MiB); when that is not enough, the training waits for
  /// the writer. Nothing: a quarter of the memory that this process may use (the machine's, or its cgroup's).
  std::optional<std::uint64_t> staging_limit = std::nullopt;
  /// See Proof.
  Proof proof = Proof::hash;

  /// Called every 50 ms while a call waits for a save in the background, on the thread of that call. What it throws
  /// comes out of the call; the save goes on, but for one whose first copies are not made yet: that one is called off,
  /// and the next finish_step() saves. (Python looks for Ctrl-C.)
  std::function<void()> while_waiting = {};

  /// Told of everything that happens, on the thread that called the run, when the work of that call is done. Empty: the
  /// front's default (C++: warnings, start and end as lines on stderr). An exception from it comes out of the call that
  /// led to it, which has done its work nevertheless; events it did not get to are told by the next call.
  std::function<void(const Event&)> on_event = {};
  /// The file system; null is the machine's.
  Fs* fs = nullptr;

  /// What a writer does in a folder on a file system without locks (some network and user-space ones). An error, by
  /// default: nothing would keep a second process from writing there at the same time. With Locking::if_available it
  /// goes on and says once what is missing.
  Locking lock = Locking::required;
  /// In which language messages name options (the fronts set it).
  Spelling spelling = Spelling::cpp;
};

/// What Run::exit_code() returns: for `return run.exit_code();` and the script around it.
enum ExitCode : int {
  kExitDone = 0,       ///< finish() was reached and everything is saved
  kExitNotSaved = 74,  ///< the last state could not be saved (EX_IOERR); the newest good checkpoint is intact
  kExitAgain = 75,     ///< not finished: run the program again and it continues (EX_TEMPFAIL)
};

}  // namespace torchkeep
