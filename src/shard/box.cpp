// SPDX-License-Identifier: BSD-3-Clause
// Arithmetic on boxes.
#include <algorithm>
#include <fmt/format.h>
#include <numeric>

#include <torchkeep/base/checked.h>
#include <torchkeep/base/error.h>
#include <torchkeep/shard/box.h>

namespace torchkeep {

void BoxList::add(BoxView box) {
  if (box.offset.size() != dims_ || box.size.size() != dims_) {
    throw Error(Code::invalid_argument,
                fmt::format("a box of {} dimensions among boxes of {}", box.offset.size(), dims_));
  }
  numbers_.insert(numbers_.end(), box.offset.begin(), box.offset.end());
  numbers_.insert(numbers_.end(), box.size.begin(), box.size.end());
  ++count_;
}

std::optional<std::int64_t> element_count(ShapeView sizes) noexcept {
  // An empty dimension makes all empty, however large the others are.
  if (std::find(sizes.begin(), sizes.end(), 0) != sizes.end()) return 0;
  std::optional<std::int64_t> count = 1;
  for (const std::int64_t size : sizes) {
    if (count) count = checked_mul(*count, size);
  }
  return count;
}

bool is_inside(BoxView box, ShapeView shape) noexcept {
  if (box.offset.size() != shape.size() || box.size.size() != shape.size()) return false;
  for (std::size_t d = 0; d < shape.size(); ++d) {
    if (box.offset[d] < 0 || box.size[d] < 0 || box.size[d] > shape[d]) return false;
    if (box.offset[d] > shape[d] - box.size[d]) return false;
  }
  return true;
}

bool is_empty(BoxView box) noexcept {
  return std::find(box.size.begin(), box.size.end(), 0) != box.size.end();
}

std::optional<Box> intersect(BoxView a, BoxView b) {
  Box common{Shape(a.offset.size()), Shape(a.offset.size())};
  for (std::size_t d = 0; d < common.offset.size(); ++d) {
    const std::int64_t begin = std::max(a.offset[d], b.offset[d]);
    const std::int64_t end = std::min(a.offset[d] + a.size[d], b.offset[d] + b.size[d]);
    if (begin >= end) return std::nullopt;
    common.offset[d] = begin;
    common.size[d] = end - begin;
  }
  return common;
}

namespace {

// Whether b begins where a ends in dimension d and is the same in all others.
bool continues(const Box& a, const Box& b, std::size_t d) {
  for (std::size_t i = 0; i < a.offset.size(); ++i) {
    const bool fits =
        i == d ? a.offset[i] + a.size[i] == b.offset[i] : a.offset[i] == b.offset[i] && a.size[i] == b.size[i];
    if (!fits) return false;
  }
  return true;
}

// Joins what touches in dimension d; true when something did.
bool merge_along(std::vector<Box>& boxes, std::size_t d) {
  std::sort(boxes.begin(), boxes.end(), [d](const Box& a, const Box& b) {
    for (std::size_t i = 0; i < a.offset.size(); ++i) {
      if (i == d) continue;
      if (a.offset[i] != b.offset[i]) return a.offset[i] < b.offset[i];
      if (a.size[i] != b.size[i]) return a.size[i] < b.size[i];
    }
    return std::pair(a.offset[d], a.size[d]) < std::pair(b.offset[d], b.size[d]);
  });
  std::size_t last = 0;
  for (std::size_t i = 1; i < boxes.size(); ++i) {
    if (continues(boxes[last], boxes[i], d))
      boxes[last].size[d] += boxes[i].size[d];
    else if (++last != i)
      boxes[last] = std::move(boxes[i]);
  }
  const bool joined = last + 1 < boxes.size();
  boxes.resize(std::min(boxes.size(), last + 1));
  return joined;
}

}  // namespace

std::vector<Box> merge(std::vector<Box> boxes) {
  std::erase_if(boxes, [](const Box& box) { return is_empty(box); });
  for (bool joined = !boxes.empty(); joined;) {
    joined = false;
    for (std::size_t d = boxes[0].offset.size(); d-- > 0;) joined = merge_along(boxes, d) || joined;
  }
  std::sort(boxes.begin(), boxes.end(),
            [](const Box& a, const Box& b) { return std::pair(a.offset, a.size) < std::pair(b.offset, b.size); });
  return boxes;
}

namespace {

// Cuts a range of a flattened tensor, dimension by dimension from the outermost on: the rest of the first row, whole
// rows, the beginning of the last row.
class Cutter {
 public:
  explicit Cutter(ShapeView shape) : shape_(shape), strides_(shape.size(), 1), prefix_(shape.size(), 0) {
    for (std::size_t d = shape.size(); d-- > 1;) strides_[d - 1] = strides_[d] * shape_[d];
  }

  std::vector<Box> run(std::int64_t begin, std::int64_t end) {
    if (shape_.empty() && begin < end) return {Box()};
    if (begin < end) cut(0, begin, end);
    return std::move(boxes_);
  }

 private:
  // Of the part that has prefix_ in the dimensions before d: its elements [begin, end), at least one.
  void cut(std::size_t d, std::int64_t begin, std::int64_t end) {
    const std::int64_t row = strides_[d];
    const std::int64_t first = begin / row;
    const std::int64_t last = (end - 1) / row;
    if (first == last && (begin % row != 0 || end % row != 0)) return inside(d, first, begin, end);
    const std::int64_t head = begin % row == 0 ? first : first + 1;
    const std::int64_t tail = end % row == 0 ? last + 1 : last;
    if (head != first) inside(d, first, begin, head * row);
    if (head < tail) add(d, head, tail);
    if (tail == last) inside(d, last, tail * row, end);
  }

  void inside(std::size_t d, std::int64_t index, std::int64_t begin, std::int64_t end) {
    prefix_[d] = index;
    cut(d + 1, begin - index * strides_[d], end - index * strides_[d]);
  }

  void add(std::size_t d, std::int64_t begin, std::int64_t end) {
    Box box{Shape(shape_.size(), 0), Shape(shape_.begin(), shape_.end())};
    for (std::size_t i = 0; i < d; ++i) box.offset[i] = prefix_[i], box.size[i] = 1;
    box.offset[d] = begin;
    box.size[d] = end - begin;
    boxes_.push_back(std::move(box));
  }

  ShapeView shape_;
  Shape strides_;
  Shape prefix_;
  std::vector<Box> boxes_;
};

}  // namespace

std::vector<Box> boxes_of(std::int64_t begin, std::int64_t end, ShapeView shape) {
  const auto count = element_count(shape);
  if (!count || begin < 0 || begin > end || end > *count) {
    throw Error(Code::invalid_argument,
                fmt::format("elements [{}, {}) of a tensor that has {}", begin, end, count.value_or(0)));
  }
  return Cutter(shape).run(begin, end);
}

std::string to_string(BoxView box) {
  std::string text = "[";
  for (std::size_t d = 0; d < box.offset.size(); ++d) {
    text += fmt::format("{}{}:{}", d == 0 ? "" : ", ", box.offset[d], box.offset[d] + box.size[d]);
  }
  return text + "]";
}

}  // namespace torchkeep
