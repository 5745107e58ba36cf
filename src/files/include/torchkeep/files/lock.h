// SPDX-License-Identifier: BSD-3-Clause
// One writer per directory: a lock that ends with its process, however that ends.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include <torchkeep/files/fs.h>

namespace torchkeep {

/// What is to be done where a file system has no locks (some network and user-space ones).
enum class Locking : std::uint8_t {
  required,      ///< an error
  if_available,  ///< go on without: whoever starts programs sees to it that one process writes
};

/// What a Lock does where it cannot be had, and what its errors advise.
struct LockRules {
  Locking locking = Locking::required;
  /// End of the error when another holds it: "open the run with Role::reader to read it".
  std::string if_busy = {};
  /// How to say Locking::if_available: "set RunOptions::lock to Locking::if_available".
  std::string if_unsupported = {};
};

/// Holds a lock file. The file stays behind when the lock ends (deleting it would let two processes lock two files of
/// one name); that it exists means nothing. A forked child does not hold its parent's lock, and a child that outlives a
/// killed parent does not keep it.
class Lock final {
 public:
  /// Takes the lock at once or throws Error (busy) that names the holder's process, host and time. Other errors as for
  /// Fs::try_lock. Where the file system has no locks: Error (unsupported) that says what is lost; with
  /// Locking::if_available this object holds nothing.
  Lock(Fs& fs, const std::string& path, const LockRules& rules = {});

  /// False only where the file system has no locks.
  bool is_held() const noexcept { return lock_ != nullptr; }
  /// Checks that the lock is still held and takes it again if this process lost it by accident. Throws Error (busy)
  /// when another has it now, when the lock file was deleted, and in a forked child. Nothing where there are no locks.
  void confirm() {
    if (lock_) lock_->confirm();
  }

 private:
  std::unique_ptr<FileLock> lock_;
};

}  // namespace torchkeep
