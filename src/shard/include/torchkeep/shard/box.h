// SPDX-License-Identifier: BSD-3-Clause
// Boxes: the parts that ranks hold of a tensor, as an offset and a size in each dimension. Arithmetic only.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

namespace torchkeep {

/// The sizes of a tensor in all its dimensions; none for a 0-d tensor.
using Shape = std::vector<std::int64_t>;
using ShapeView = std::span<const std::int64_t>;

/// A Box that somebody else holds.
struct BoxView {
  ShapeView offset;
  ShapeView size;
};

/// The elements of a tensor from offset[d] up to offset[d] + size[d] in each dimension d.
struct Box {
  Shape offset;
  Shape size;

  Box() = default;
  Box(Shape begin, Shape sizes) : offset(std::move(begin)), size(std::move(sizes)) {}
  explicit Box(BoxView view)
      : offset(view.offset.begin(), view.offset.end()), size(view.size.begin(), view.size.end()) {}
  operator BoxView() const noexcept { return {offset, size}; }  // NOLINT: a Box is looked at as one
  bool operator==(const Box&) const = default;
};

/// Many boxes of one tensor in one piece of memory: 16 bytes for each dimension of each.
class BoxList {
 public:
  /// Of a tensor with `dims` dimensions.
  explicit BoxList(std::size_t dims = 0) : dims_(dims) {}

  std::size_t dims() const noexcept { return dims_; }
  std::size_t size() const noexcept { return count_; }
  bool empty() const noexcept { return count_ == 0; }
  void reserve(std::size_t count) { numbers_.reserve(2 * dims_ * count); }
  /// Throws Error (invalid_argument) unless the box has dims() dimensions.
  void add(BoxView box);
  BoxView operator[](std::size_t i) const noexcept {
    const ShapeView numbers = ShapeView(numbers_).subspan(2 * dims_ * i, 2 * dims_);
    return {numbers.first(dims_), numbers.last(dims_)};
  }

 private:
  std::size_t dims_;
  std::size_t count_ = 0;
  std::vector<std::int64_t> numbers_;  // offset, size, offset, size ...
};

/// Number of elements in sizes that are not negative (1 for none); nothing when it does not fit 63 bits.
std::optional<std::int64_t> element_count(ShapeView sizes) noexcept;

/// True when the box has as many dimensions as the tensor, nothing of it is negative, and it ends inside.
bool is_inside(BoxView box, ShapeView shape) noexcept;

/// True when a size is 0.
bool is_empty(BoxView box) noexcept;

/// What two boxes of one tensor have in common; nothing when that is empty.
std::optional<Box> intersect(BoxView a, BoxView b);

/// Joins boxes that touch and together are a box, until none do, dimension by dimension: rows that follow each other
/// become one. Empty boxes disappear; what overlaps stays as it is. The result is in ascending order of offsets.
std::vector<Box> merge(std::vector<Box> boxes);

/// The elements [begin, end) of a flattened row-major tensor, as boxes in ascending order: at most 2 x dims - 1 of them
/// (one for a 0-d tensor). Throws Error (invalid_argument) unless 0 <= begin <= end <= number of elements.
std::vector<Box> boxes_of(std::int64_t begin, std::int64_t end, ShapeView shape);

/// "[0:6, 2:4]": for people.
std::string to_string(BoxView box);

}  // namespace torchkeep
