// SPDX-License-Identifier: BSD-3-Clause
// Arithmetic on boxes, compared with counting elements one by one.
#include <algorithm>
#include <gtest/gtest.h>
#include <random>
#include <set>

#include <torchkeep/shard/box.h>
#include <torchkeep/shard/owners.h>

#include "shard/elements.h"
#include "support/expect_error.h"

namespace torchkeep {
namespace {

using testing::elements_of;
using testing::random_box;
using testing::random_shape;

TEST(Box, IntersectsWhereBothHaveElements) {
  std::mt19937 random(1);
  for (int i = 0; i < 2000; ++i) {
    const Shape shape = random_shape(random);
    const Box a = random_box(random, shape), b = random_box(random, shape);
    const std::set<std::int64_t> in_a = elements_of(a, shape), in_b = elements_of(b, shape);
    std::set<std::int64_t> both;
    std::set_intersection(in_a.begin(), in_a.end(), in_b.begin(), in_b.end(), std::inserter(both, both.end()));
    const auto common = intersect(a, b);
    EXPECT_EQ(common ? elements_of(*common, shape) : std::set<std::int64_t>(), both)
        << to_string(a) << " and " << to_string(b);
  }
}

TEST(Box, IsInsideOnlyWhereNothingWrapsOrLeavesTheTensor) {
  const Shape shape = {4, 3};
  constexpr std::int64_t kMost = std::numeric_limits<std::int64_t>::max();
  EXPECT_TRUE(is_inside(Box({0, 0}, {4, 3}), shape));
  EXPECT_TRUE(is_inside(Box({4, 0}, {0, 3}), shape));
  EXPECT_FALSE(is_inside(Box({1, 0}, {4, 3}), shape));
  EXPECT_FALSE(is_inside(Box({-1, 0}, {1, 3}), shape));
  EXPECT_FALSE(is_inside(Box({0, 0}, {-1, 3}), shape));
  EXPECT_FALSE(is_inside(Box({kMost, 0}, {1, 3}), shape));
  EXPECT_FALSE(is_inside(Box({1, 0}, {kMost, 3}), shape));
  EXPECT_FALSE(is_inside(Box({0}, {4}), shape));
  EXPECT_TRUE(is_inside(Box(), Shape()));
}

TEST(Box, ElementCountIsNothingWhereItDoesNotFit) {
  constexpr std::int64_t kLarge = std::int64_t{1} << 40;
  EXPECT_EQ(element_count(Shape{}), 1);
  EXPECT_EQ(element_count(Shape{2, 3, 4}), 24);
  EXPECT_EQ(element_count(Shape{kLarge, kLarge, 0}), 0);
  EXPECT_FALSE(element_count(Shape{kLarge, kLarge}));
}

TEST(Box, RangesOfAFlattenedTensorAreFewBoxesThatHoldJustThem) {
  std::mt19937 random(2);
  for (int i = 0; i < 4000; ++i) {
    const Shape shape = random_shape(random);
    const std::int64_t count = element_count(shape).value();
    std::int64_t begin = std::uniform_int_distribution<std::int64_t>(0, count)(random);
    std::int64_t end = std::uniform_int_distribution<std::int64_t>(0, count)(random);
    if (begin > end) std::swap(begin, end);
    std::vector<std::int64_t> found;
    const std::vector<Box> boxes = boxes_of(begin, end, shape);
    for (const Box& box : boxes) {
      const auto elements = elements_of(box, shape);
      found.insert(found.end(), elements.begin(), elements.end());
    }
    std::vector<std::int64_t> wanted;
    for (std::int64_t element = begin; element < end; ++element) wanted.push_back(element);
    EXPECT_EQ(found, wanted) << "in order, each once";
    EXPECT_LE(boxes.size(), std::max<std::size_t>(1, 2 * shape.size() - 1));
  }
}

TEST(Box, ARangeThatIsNotInTheTensorIsAnError) {
  const Shape shape = {2, 3};
  EXPECT_ERROR(boxes_of(0, 7, shape), Code::invalid_argument, "7");
  EXPECT_ERROR(boxes_of(-1, 2, shape), Code::invalid_argument, "-1");
  EXPECT_ERROR(boxes_of(4, 3, shape), Code::invalid_argument, "[4, 3)");
  EXPECT_TRUE(boxes_of(3, 3, shape).empty());
  EXPECT_EQ(boxes_of(0, 1, Shape()).size(), 1u);
}

TEST(Box, MergedPiecesAreTheWholeAgain) {
  std::mt19937 random(3);
  for (int i = 0; i < 500; ++i) {
    const Shape shape = random_shape(random);
    std::vector<Box> grid = testing::random_grid(random, shape);
    std::shuffle(grid.begin(), grid.end(), random);
    const std::vector<Box> merged = merge(grid);
    if (element_count(shape) == 0) {
      EXPECT_TRUE(merged.empty());
    } else {
      ASSERT_EQ(merged.size(), 1u) << "a grid is one box";
      EXPECT_EQ(merged[0], Box(Shape(shape.size(), 0), shape));
    }
  }
}

TEST(Box, MergingKeepsEveryElementAndInventsNone) {
  std::mt19937 random(4);
  for (int i = 0; i < 500; ++i) {
    const Shape shape = random_shape(random);
    std::vector<Box> boxes;
    std::multiset<std::int64_t> before, after;
    for (int k = 0; k < 6; ++k) boxes.push_back(random_box(random, shape));
    const std::vector<Box> merged = merge(boxes);
    for (const Box& box : boxes) before.merge(std::multiset<std::int64_t>(testing::as_multiset(box, shape)));
    for (const Box& box : merged) after.merge(std::multiset<std::int64_t>(testing::as_multiset(box, shape)));
    EXPECT_EQ(before, after);
    EXPECT_LE(merged.size(), boxes.size());
  }
}

TEST(BoxList, TakesOnlyBoxesOfItsDimensions) {
  BoxList boxes(2);
  boxes.add(Box({0, 1}, {2, 3}));
  EXPECT_EQ(Box(boxes[0]), Box({0, 1}, {2, 3}));
  EXPECT_ERROR(boxes.add(Box({0}, {2})), Code::invalid_argument, "1 dimensions");
}

TEST(Owners, ShareTheBytesAndEveryRankAgrees) {
  constexpr std::size_t kWorld = 4;
  Owners owners(kWorld), again(kWorld);
  const std::vector<std::size_t> all = {0, 1, 2, 3}, backwards = {3, 2, 1, 0};
  for (int i = 0; i < 400; ++i) {
    const std::string name = "layer." + std::to_string(i);
    EXPECT_EQ(owners.choose(all, 100, name), again.choose(backwards, 100, name));
  }
  for (std::size_t rank = 0; rank < kWorld; ++rank) EXPECT_EQ(owners.bytes(rank), 10'000u);
}

TEST(Owners, OnlyARankThatHasTheBoxGetsIt) {
  Owners owners(3);
  EXPECT_EQ(owners.choose(std::vector<std::size_t>{2}, 1000, "a"), 2u);
  EXPECT_EQ(owners.choose(std::vector<std::size_t>{2}, 1000, "b"), 2u);
  EXPECT_EQ(owners.choose(std::vector<std::size_t>{1, 2}, 1, "c"), 1u);
  EXPECT_ERROR(owners.choose(std::vector<std::size_t>{3}, 1, "d"), Code::invalid_argument, "rank 3 of 3");
  EXPECT_ERROR(owners.choose(std::vector<std::size_t>{}, 1, "e"), Code::invalid_argument, "'e' is on no rank");
}

}  // namespace
}  // namespace torchkeep
