// SPDX-License-Identifier: BSD-3-Clause
// Covering a tensor exactly once, compared with counting how often each element is in a box.
#include <algorithm>
#include <gtest/gtest.h>
#include <map>
#include <random>

#include <torchkeep/shard/cover.h>

#include "shard/elements.h"
#include "support/expect_error.h"

namespace torchkeep {
namespace {

using State = Cover::State;

BoxList as_list(const std::vector<Box>& boxes, std::size_t dims) {
  BoxList list(dims);
  for (const Box& box : boxes) list.add(box);
  return list;
}

// How often each element is covered, one by one.
State by_counting(const std::vector<Box>& boxes, ShapeView shape) {
  std::map<std::int64_t, int> times;
  for (const Box& box : boxes) {
    for (const std::int64_t element : testing::as_multiset(box, shape)) ++times[element];
  }
  for (const auto& [element, count] : times) {
    if (count > 1) return State::overlapping;
  }
  return static_cast<std::int64_t>(times.size()) == element_count(shape) ? State::complete : State::missing;
}

TEST(Cover, AGridCoversExactlyOnceAndOneBoxMoreOrLessDoesNot) {
  std::mt19937 random(1);
  for (int i = 0; i < 2000; ++i) {
    const Shape shape = testing::random_shape(random);
    std::vector<Box> grid = testing::random_grid(random, shape);
    std::shuffle(grid.begin(), grid.end(), random);
    ASSERT_TRUE(check_cover(shape, as_list(grid, shape.size())).is_complete());
    std::vector<Box> fewer(grid.begin(), grid.end() - 1), more = grid;
    more.push_back(testing::random_box(random, shape));
    EXPECT_EQ(check_cover(shape, as_list(fewer, shape.size())).state, by_counting(fewer, shape));
    EXPECT_EQ(check_cover(shape, as_list(more, shape.size())).state, by_counting(more, shape));
  }
}

TEST(Cover, RandomBoxesAreJudgedAsCountingJudgesThem) {
  std::mt19937 random(2);
  std::map<State, int> seen;
  for (int i = 0; i < 20000; ++i) {
    Shape shape(static_cast<std::size_t>(testing::random_number(random, 1, 3)));
    for (std::int64_t& size : shape) size = testing::random_number(random, 1, 3);
    std::vector<Box> boxes;
    for (std::int64_t k = testing::random_number(random, 0, 5); k > 0; --k)
      boxes.push_back(testing::random_box(random, shape));
    const State expected = by_counting(boxes, shape);
    ++seen[expected];
    EXPECT_EQ(check_cover(shape, as_list(boxes, shape.size())).state, expected);
  }
  EXPECT_GT(seen[State::complete], 100);
  EXPECT_GT(seen[State::overlapping], 100);
}

// The right number of elements in all proves nothing.
TEST(Cover, OneElementTwiceAndAnotherNotAtAllIsAnOverlap) {
  const BoxList boxes = as_list({Box({0, 0}, {2, 2}), Box({1, 1}, {1, 1}), Box({0, 2}, {1, 1})}, 2);
  const Cover cover = check_cover(Shape{2, 3}, boxes);
  EXPECT_EQ(cover.covered, cover.total);
  EXPECT_EQ(cover.state, State::overlapping);
  EXPECT_EQ(cover.describe(boxes), "chunks [0:2, 0:2] and [1:2, 1:2] overlap");
}

TEST(Cover, SaysWhatIsWrong) {
  const Shape shape = {6, 4};
  const BoxList missing = as_list({Box({0, 0}, {3, 4})}, 2);
  EXPECT_EQ(check_cover(shape, missing).describe(missing), "12 of 24 elements are in no chunk");
  const BoxList outside = as_list({Box({0, 0}, {3, 4}), Box({3, 0}, {4, 4})}, 2);
  EXPECT_EQ(check_cover(shape, outside).describe(outside), "chunk [3:7, 0:4] lies outside of the tensor");
  const BoxList negative = as_list({Box({0, 0}, {-3, -4}), Box({0, 0}, {6, 4})}, 2);
  EXPECT_EQ(check_cover(shape, negative).state, State::outside);
}

TEST(Cover, AScalarIsOneBoxAndNothingNeedsNone) {
  EXPECT_TRUE(check_cover(Shape(), as_list({Box()}, 0)).is_complete());
  EXPECT_EQ(check_cover(Shape(), as_list({}, 0)).state, State::missing);
  EXPECT_EQ(check_cover(Shape(), as_list({Box(), Box()}, 0)).state, State::overlapping);
  EXPECT_TRUE(check_cover(Shape{3, 0}, as_list({}, 2)).is_complete());
  EXPECT_TRUE(check_cover(Shape{3, 0}, as_list({Box({0, 0}, {3, 0})}, 2)).is_complete());
}

// DTensor: several ranks past the end of an uneven split have empty boxes.
TEST(Cover, EmptyBoxesDoNoHarm) {
  const std::vector<Box> boxes = {Box({0}, {2}), Box({2}, {1}), Box({3}, {0}), Box({3}, {0})};
  EXPECT_TRUE(check_cover(Shape{3}, as_list(boxes, 1)).is_complete());
}

TEST(Cover, SizesThatOverflowAreErrorsAndNeverComplete) {
  constexpr std::int64_t kLarge = std::int64_t{1} << 62;
  EXPECT_ERROR(check_cover(Shape{kLarge, 4}, BoxList(2)), Code::invalid_argument, "no tensor");
  EXPECT_ERROR(check_cover(Shape{-1}, BoxList(1)), Code::invalid_argument, "no tensor");
  // Volumes whose sum wraps around to the right one.
  BoxList boxes(1);
  for (int i = 0; i < 8; ++i) boxes.add(Box({0}, {kLarge}));
  EXPECT_FALSE(check_cover(Shape{kLarge}, boxes).is_complete());
}

TEST(Cover, ManyBoxesAreOnePass) {
  constexpr std::int64_t kSide = 1000;
  BoxList boxes(2);
  boxes.reserve(kSide * kSide);
  for (std::int64_t row = 0; row < kSide; ++row) {
    for (std::int64_t column = 0; column < kSide; ++column) boxes.add(Box({row * 2, column * 3}, {2, 3}));
  }
  const Shape shape = {2 * kSide, 3 * kSide};
  EXPECT_TRUE(check_cover(shape, boxes).is_complete());
  boxes.add(Box({1999, 2999}, {1, 1}));
  EXPECT_EQ(check_cover(shape, boxes).state, State::overlapping);
}

}  // namespace
}  // namespace torchkeep
