// SPDX-License-Identifier: BSD-3-Clause
// How many threads an option means.
#pragma once

#include <algorithm>

#include <torchkeep/base/parallel.h>

namespace torchkeep {

/// One thread reads and checks about 6 GB/s from the cache; beyond these the memory is the limit on any machine.
inline constexpr unsigned kMostReaders = 16;

inline unsigned reading_threads(unsigned asked) {
  return asked != 0 ? asked : std::min(usable_cores(), kMostReaders);
}

}  // namespace torchkeep
