// SPDX-License-Identifier: BSD-3-Clause
// From the bytes of a chunk to the memory of a part of its tensor.
#pragma once

#include <cstdint>
#include <vector>

#include <torchkeep/shard/box.h>

namespace torchkeep::dcp {

/// What a chunk and a wanted box have in common, as runs of equal length that lie in one piece in both. Run r begins at
/// byte from(r) of the chunk, which ascends with r, and goes to byte to(r) behind the target's first element.
class PartCopy {
 public:
  /// `common` is not empty and lies inside both boxes; `strides` are the target's, in elements.
  PartCopy(BoxView common, BoxView chunk, BoxView wanted, ShapeView strides, std::size_t itemsize);

  std::uint64_t count() const noexcept { return count_; }
  std::uint64_t length() const noexcept { return length_; }
  std::uint64_t from(std::uint64_t run) const noexcept { return position(run, from_, &Dimension::from); }
  std::uint64_t to(std::uint64_t run) const noexcept { return position(run, to_, &Dimension::to); }

 private:
  struct Dimension {
    std::uint64_t size;
    std::uint64_t from;  // stride in the chunk, bytes
    std::uint64_t to;    // and in the target
  };
  std::uint64_t position(std::uint64_t run, std::uint64_t begin, std::uint64_t Dimension::*stride) const noexcept {
    for (std::size_t d = outer_.size(); d-- > 0;) {
      begin += run % outer_[d].size * (outer_[d].*stride);
      run /= outer_[d].size;
    }
    return begin;
  }

  std::vector<Dimension> outer_;  // over which runs are counted, outermost first
  std::uint64_t from_ = 0;
  std::uint64_t to_ = 0;
  std::uint64_t count_ = 1;
  std::uint64_t length_;
};

}  // namespace torchkeep::dcp
