// SPDX-License-Identifier: BSD-3-Clause
// Boxes as the sets of their elements, for comparison with arithmetic; and random ones.
#pragma once

#include <random>
#include <set>
#include <vector>

#include <torchkeep/shard/box.h>

namespace torchkeep::testing {

inline std::multiset<std::int64_t> as_multiset(BoxView box, ShapeView shape) {
  std::multiset<std::int64_t> elements;
  const std::int64_t count = element_count(box.size).value();
  for (std::int64_t i = 0; i < count; ++i) {
    std::int64_t rest = i, element = 0, stride = 1;
    for (std::size_t d = shape.size(); d-- > 0;) {
      element += (box.offset[d] + rest % box.size[d]) * stride;
      rest /= box.size[d];
      stride *= shape[d];
    }
    elements.insert(element);
  }
  return elements;
}

inline std::set<std::int64_t> elements_of(BoxView box, ShapeView shape) {
  const auto all = as_multiset(box, shape);
  return {all.begin(), all.end()};
}

inline std::int64_t random_number(std::mt19937& random, std::int64_t first, std::int64_t last) {
  return std::uniform_int_distribution<std::int64_t>(first, last)(random);
}

/// One to four dimensions of 0 (seldom) to 6.
inline Shape random_shape(std::mt19937& random) {
  Shape shape(static_cast<std::size_t>(random_number(random, 1, 4)));
  for (std::int64_t& size : shape) size = random_number(random, 0, 19) == 0 ? 0 : random_number(random, 1, 6);
  return shape;
}

inline Box random_box(std::mt19937& random, ShapeView shape) {
  Box box;
  for (const std::int64_t size : shape) {
    const std::int64_t begin = random_number(random, 0, size);
    box.offset.push_back(begin);
    box.size.push_back(random_number(random, 0, size - begin));
  }
  return box;
}

/// Boxes that cover the tensor exactly once: each dimension cut at random places.
inline std::vector<Box> random_grid(std::mt19937& random, ShapeView shape) {
  std::vector<Box> grid = {Box(Shape(shape.size(), 0), Shape(shape.begin(), shape.end()))};
  for (std::size_t d = 0; d < shape.size(); ++d) {
    std::set<std::int64_t> cuts = {0, shape[d]};
    for (int i = 0; i < 2; ++i) cuts.insert(random_number(random, 0, shape[d]));
    std::vector<Box> finer;
    for (const Box& box : grid) {
      for (auto begin = cuts.begin(); std::next(begin) != cuts.end(); ++begin) {
        Box part = box;
        part.offset[d] = *begin;
        part.size[d] = *std::next(begin) - *begin;
        finer.push_back(std::move(part));
      }
      if (shape[d] == 0) finer.push_back(box);
    }
    grid = std::move(finer);
  }
  return grid;
}

}  // namespace torchkeep::testing
