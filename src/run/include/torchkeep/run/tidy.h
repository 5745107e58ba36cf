// SPDX-License-Identifier: BSD-3-Clause
// Removing checkpoints from a run directory that nobody is writing to.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include <torchkeep/files/stores.h>
#include <torchkeep/run/overview.h>

namespace torchkeep {

/// What a removal did, or would do.
struct Removal {
  std::vector<SetAside> removed;  ///< oldest first
  std::vector<SetAside> pinned;   ///< left there because they were pinned at the last moment
  std::uint64_t bytes = 0;        ///< of `removed`
};

struct RemovalOptions {
  bool dry_run = false;  ///< say what would be removed, change nothing; needs no lock
  bool pinned = false;   ///< remove what is pinned too, with its pin
  /// Allow to remove the newest checkpoint, or all of them.
  bool newest = false;
  /// What to do on a file system without locks; and what its error advises: "use --without-lock".
  Locking locking = Locking::required;
  std::string if_unsupported = {};
};

/// Removes the checkpoints that no rule keeps. The newest is read back whole first: nothing is removed while it is
/// damaged. Throws Error: busy (a run is writing there), corrupt (the newest is damaged), invalid_argument (no `last`),
/// io.
Removal prune_run(const std::string& directory, const KeepRules& rules, const RemovalOptions& options = {},
                  Fs& fs = any_store());

/// Removes the checkpoints of these steps. Throws Error: not_found (lists every step without a checkpoint; then nothing
/// is removed), invalid_argument (the newest or a pinned one is among
/// them, without `newest` or `pinned`; then nothing is removed), busy, io.
Removal remove_checkpoints(const std::string& directory, const std::vector<std::int64_t>& steps,
                           const RemovalOptions& options = {}, Fs& fs = any_store());

/// Removes the damaged checkpoints that were set aside. Throws Error: busy, io.
Removal remove_broken(const std::string& directory, const RemovalOptions& options = {}, Fs& fs = any_store());

}  // namespace torchkeep
