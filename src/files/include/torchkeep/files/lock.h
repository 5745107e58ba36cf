// SPDX-License-Identifier: BSD-3-Clause
// One writer per directory: a lock that ends with its process, however that ends.
#pragma once

#include <memory>
#include <string>
#include <string_view>

#include <torchkeep/files/fs.h>

namespace torchkeep {

/// Holds a lock file. The file stays behind when the lock ends (deleting it would let two processes lock two files of
/// one name); that it exists means nothing. A forked child does not hold its parent's lock, and a child that outlives a
/// killed parent does not keep it.
class Lock final {
 public:
  /// Takes the lock at once or throws Error (busy) that names the holder's process, host and time, and ends with
  /// `advice` ("open the run with Role::reader to read it"). Other errors as for Fs::try_lock.
  Lock(Fs& fs, const std::string& path, std::string_view advice = {});

  /// Checks that the lock is still held and takes it again if this process lost it by accident. Throws Error (busy)
  /// when another has it now, when the lock file was deleted, and in a forked child.
  void confirm() { lock_->confirm(); }

 private:
  std::unique_ptr<FileLock> lock_;
};

}  // namespace torchkeep
