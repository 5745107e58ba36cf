// SPDX-License-Identifier: BSD-3-Clause
// Where the bytes of a chunk stand among the bytes of its tensor, both row-major.
#pragma once

#include <cstdint>

#include <torchkeep/shard/box.h>

namespace torchkeep::dcp {

/// A chunk is a row of runs of equal length, each of which lies in one piece in the tensor. Run r begins at byte
/// r * length() of the chunk and at byte position(r) of the tensor, which ascends with r.
class Runs {
 public:
  Runs(BoxView box, ShapeView shape, std::size_t itemsize);

  std::uint64_t count() const noexcept { return count_; }
  std::uint64_t length() const noexcept { return length_; }
  std::uint64_t nbytes() const noexcept { return count_ * length_; }
  std::uint64_t position(std::uint64_t run) const noexcept;
  /// Of the tensor's bytes: from the first of the chunk to one behind its last. For a chunk that is not empty.
  std::uint64_t begin() const noexcept { return base_; }
  std::uint64_t end() const noexcept { return position(count_ - 1) + length_; }
  /// The first run that has bytes at or behind this byte of the tensor; count() when there is none.
  std::uint64_t first_behind(std::uint64_t position) const noexcept;

 private:
  struct Dimension {
    std::uint64_t size;
    std::uint64_t stride;  // bytes of the tensor
  };

  std::vector<Dimension> outer_;  // over which runs are counted, outermost first
  std::uint64_t base_ = 0;
  std::uint64_t count_ = 1;
  std::uint64_t length_ = 0;
};

}  // namespace torchkeep::dcp
