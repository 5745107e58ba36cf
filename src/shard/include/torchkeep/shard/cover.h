// SPDX-License-Identifier: BSD-3-Clause
// Whether boxes cover a tensor exactly once.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <utility>

#include <torchkeep/shard/box.h>

namespace torchkeep {

/// How boxes cover a tensor.
struct Cover {
  enum class State : std::uint8_t {
    complete,     ///< every element is in exactly one box
    missing,      ///< elements are in no box
    overlapping,  ///< elements are in several boxes
    outside,      ///< a box leaves the tensor, or has another number of dimensions or negative numbers
  };
  State state = State::complete;
  std::uint64_t covered = 0;  ///< elements of all boxes in all; of those inside the tensor
  std::uint64_t total = 0;    ///< elements of the tensor
  /// The box that leaves the tensor (twice the same), or two that overlap, where they were found.
  std::optional<std::pair<std::size_t, std::size_t>> boxes = {};

  bool is_complete() const noexcept { return state == State::complete; }
  /// "chunks [0:3] and [2:6] overlap": one line, for errors; `boxes` are the ones that were checked.
  std::string describe(const BoxList& boxes) const;
};

/// Checks that the boxes (empty ones do no harm) cover a tensor of this shape exactly once. Takes time in proportion to
/// their number and no memory when they do; to find two that overlap it sorts them. The answer "complete" is wrong with
/// a probability below 2^-100, whatever the boxes are, for it depends on numbers that only this process knows.
/// Throws Error (invalid_argument) for a shape with a negative size or of more than 2^63 elements.
Cover check_cover(ShapeView shape, const BoxList& boxes);

}  // namespace torchkeep
