// SPDX-License-Identifier: BSD-3-Clause
// Which checkpoints of a run stay.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

namespace torchkeep {

/// Which end of a metric is good.
enum class Best : std::uint8_t { min, max };

/// What "best" goes by.
struct BestBy {
  std::string metric;
  Best best = Best::min;

  bool operator==(const BestBy&) const = default;
};

/// Which checkpoints stay; the pinned and the newest always do.
struct KeepRules {
  std::int64_t last = 0;   ///< number of most recent checkpoints to keep; 0: all of them stay
  std::int64_t every = 0;  ///< every checkpoint whose step is a multiple of this; 0: none
  std::int64_t best = 0;   ///< number of checkpoints to keep that are best by `by`; 0: none
  std::optional<BestBy> by = {};

  bool operator==(const KeepRules&) const = default;
};

}  // namespace torchkeep
