// SPDX-License-Identifier: BSD-3-Clause
// Runs of a chunk. Its tensor was checked before: nothing here can overflow.
#include "runs.h"

namespace torchkeep::dcp {

Runs::Runs(BoxView box, ShapeView shape, std::size_t itemsize) : length_(itemsize) {
  std::uint64_t stride = itemsize;
  bool is_whole = true;  // the box has all of the dimensions behind this one
  std::vector<Dimension> inner_first;
  for (std::size_t d = shape.size(); d-- > 0;) {
    const auto size = static_cast<std::uint64_t>(box.size[d]);
    base_ += static_cast<std::uint64_t>(box.offset[d]) * stride;
    if (is_whole) {
      length_ *= size;
      is_whole = box.size[d] == shape[d];
    } else {
      inner_first.push_back({size, stride});
      count_ *= size;
    }
    stride *= static_cast<std::uint64_t>(shape[d]);
  }
  outer_.assign(inner_first.rbegin(), inner_first.rend());
}

std::uint64_t Runs::position(std::uint64_t run) const noexcept {
  std::uint64_t position = base_;
  for (std::size_t d = outer_.size(); d-- > 0;) {
    position += run % outer_[d].size * outer_[d].stride;
    run /= outer_[d].size;
  }
  return position;
}

std::uint64_t Runs::first_behind(std::uint64_t position) const noexcept {
  std::uint64_t first = 0;
  for (std::uint64_t last = count_; first < last;) {
    const std::uint64_t middle = first + (last - first) / 2;
    if (this->position(middle) + length_ > position)
      last = middle;
    else
      first = middle + 1;
  }
  return first;
}

}  // namespace torchkeep::dcp
