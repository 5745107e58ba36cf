// SPDX-License-Identifier: BSD-3-Clause
// The commit protocol: how what was written becomes a checkpoint.
//
//   1 begin    a hidden name beside the final one, and the space reserved where the size is known
//   2 write    everything under the hidden name
//   3 sync     its bytes, once: they are on stable storage before any name leads to them
//   4 read     it back and compare every CRC-32
//   5 ask      the caller's before_commit: the last moment to call the checkpoint off
//   6 publish  the rename to the final name: the one atomic moment, before it the old checkpoint, after it the new
//   7 sync     the folder: the name leads to the checkpoint after a power cut, too
//
// 3 and 7 are left out without `durable`, 4 without `read_back`. What fails or throws in 2 to 6 leaves the old
// checkpoint and nothing of the new one.
#pragma once

#include <cstdint>
#include <functional>

#include <torchkeep/base/progress.h>

namespace torchkeep {

/// A checkpoint that is being written under a hidden name (step 1), be it a file or a folder of files. Destroyed before
/// publish(), it removes what was written.
class PendingCheckpoint {
 public:
  PendingCheckpoint() = default;
  PendingCheckpoint(const PendingCheckpoint&) = delete;
  PendingCheckpoint& operator=(const PendingCheckpoint&) = delete;
  virtual ~PendingCheckpoint() = default;

  virtual void write(const Progress& on_progress) = 0;
  /// Nothing is written after it.
  virtual void sync() = 0;
  /// Throws Error (corrupt) when what was written is not what is read.
  virtual void read_back() = 0;
  /// Steps 6 and 7.
  virtual void publish() = 0;
  /// Bytes of all its files.
  virtual std::uint64_t size() const noexcept = 0;
};

struct CommitSteps {
  bool durable = true;
  bool read_back = false;
  /// What it throws comes out of commit(), and nothing is published.
  std::function<void()> before_commit = {};
  Progress on_progress = {};
};

/// Steps 2 to 7. Throws what they throw.
void commit(PendingCheckpoint& pending, const CommitSteps& steps);

}  // namespace torchkeep
