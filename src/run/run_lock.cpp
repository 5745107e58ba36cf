// SPDX-License-Identifier: BSD-3-Clause
// Which of the two names is locked, and in which order.
#include "run_lock.h"

#include <algorithm>

#include <torchkeep/run/names.h>

#include "entries.h"
#include "places.h"

namespace torchkeep {

RunLock::RunLock(Fs& fs, const std::string& directory, const LockRules& rules) {
  const std::string usual = in_directory(directory, names::kLock);
  const std::string other = in_directory(directory, names::kOtherLock);
  const bool is_odd = fs.entry(usual) && !is_file(fs, usual);
  if (is_odd) locks_.emplace_back(fs, other, rules);
  // Looked at again, now that the other one is held: what stood there may be gone, and its name another's lock.
  if (!fs.entry(usual) || is_file(fs, usual)) locks_.emplace_back(fs, usual, rules);
  if (!is_odd && is_file(fs, other)) locks_.emplace_back(fs, other, rules);
}

bool RunLock::is_held() const noexcept {
  return std::any_of(locks_.begin(), locks_.end(), [](const Lock& one) { return one.is_held(); });
}

void RunLock::confirm() {
  for (Lock& one : locks_) one.confirm();
}

}  // namespace torchkeep
