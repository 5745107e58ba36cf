// SPDX-License-Identifier: BSD-3-Clause
// Where a number lies between two others, for any doubles: differences of large ones overflow, halves of tiny ones
// vanish.
#pragma once

#include <algorithm>
#include <cmath>

namespace torchkeep {

/// Finds places in a range, low <= high, both finite.
class Scale {
 public:
  Scale(double low, double high) noexcept
      : low_(low), high_(high), width_(high - low), by_halves_(!std::isfinite(width_)) {
    if (by_halves_) width_ = high / 2 - low / 2;
  }
  /// From 0 (at `low` and below) to 1 (at `high` and above); 0 for NaN and in a range of no width.
  double share(double value) const noexcept {
    if (!(value > low_)) return 0;
    if (value >= high_) return 1;
    return std::min((by_halves_ ? value / 2 - low_ / 2 : value - low_) / width_, 1.0);
  }
  /// The number at a share from 0 to 1; finite, `low` at 0 and `high` at 1.
  double at(double share) const noexcept { return std::lerp(low_, high_, share); }
  /// The index of `count` parts of equal width that the number lies in; `high` is in the last.
  std::size_t part(double value, std::size_t count) const noexcept {
    return std::min(static_cast<std::size_t>(share(value) * static_cast<double>(count)), count - 1);
  }

 private:
  double low_;
  double high_;
  double width_;
  bool by_halves_;
};

}  // namespace torchkeep
