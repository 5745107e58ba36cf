// SPDX-License-Identifier: BSD-3-Clause
// The lock of a run directory, also where something that is no file stands under its name.
#pragma once

#include <string>
#include <vector>

#include <torchkeep/files/lock.h>

namespace torchkeep {

/// Holds ".lock"; where a folder, link or pipe stands there, ".lock-2". Whoever locks ".lock" locks a ".lock-2" that is
/// there too: so the two never let two processes in, though what stood in the way be taken away while one holds it.
class RunLock final {
 public:
  /// Throws Error as Lock does, and invalid_argument when something else stands under both names.
  RunLock(Fs& fs, const std::string& directory, const LockRules& rules);

  /// As for Lock.
  bool is_held() const noexcept;
  void confirm();

 private:
  std::vector<Lock> locks_;
};

}  // namespace torchkeep
