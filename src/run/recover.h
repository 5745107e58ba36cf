// SPDX-License-Identifier: BSD-3-Clause
// Which checkpoint a run continues from.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include <torchkeep/base/error.h>
#include <torchkeep/run/checkpoint_store.h>
#include <torchkeep/run/options.h>
#include <torchkeep/state/value.h>

namespace torchkeep {

/// A checkpoint that cannot be used.
struct Damaged {
  std::int64_t step = 0;
  std::string path;  ///< where it is now
  std::string reason;
  std::string left_there{};  ///< why it could not be renamed; empty when it was, or was not to be
};

struct Recovered {
  std::int64_t step = 0;
  std::string path;
  Value checkpoint;              ///< in memory, every byte checked; with `use`: what open_checkpoint() gave
  std::vector<Damaged> damaged;  ///< newer ones, newest first
};

/// True when the error means that the file's bytes are bad: not that the system could not read them just now, nor that
/// this version does not read them (Code::unsupported, Code::refused).
bool is_damage(const Error& error) noexcept;

/// The newest checkpoint that verifies; nothing when there is no checkpoint at all. A writer puts the damaged newer
/// ones into quarantine; a reader leaves them. Throws Error: corrupt when there are checkpoints but none verifies (then
/// nothing is renamed, so that the next start does not begin anew in silence), and what reading throws when the cause
/// is not damage (too many open files). A checkpoint that is whole and that this version does not read (a later one
/// wrote it, or it is refused) is not damage either: Error (unsupported, refused), and nothing is renamed, for an older
/// checkpoint in its place would be another run.
///
/// With `use`, checkpoints are opened with open_checkpoint() instead, and `use` is what reads them: one whose bytes
/// turn out to be damaged meanwhile is passed over as well, and `use` is called with the next older one. Other errors
/// of `use` are thrown. `verify_first`: a checkpoint is checked whole before `use` gets it.
std::optional<Recovered> recover(const CheckpointStore& store, Role role,
                                 const std::function<void(const Recovered&)>& use = {}, bool verify_first = false);

}  // namespace torchkeep
