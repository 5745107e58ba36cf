// SPDX-License-Identifier: BSD-3-Clause
// Placements: every rank's box together are the tensor; what is no box is refused. tests/shard/test_dtensor_boxes.py
// compares with torch.
#include <gtest/gtest.h>
#include <random>

#include <torchkeep/shard/cover.h>
#include <torchkeep/shard/placement.h>

#include "shard/elements.h"
#include "support/expect_error.h"

namespace torchkeep {
namespace {

Box box(const Shape& shape, const Shape& mesh, const Shape& coordinate, const std::vector<Placement>& placements) {
  return local_box(shape, mesh, coordinate, placements);
}

TEST(LocalBox, UnevenSplitsLeaveEmptyPartsAtTheEnd) {
  const std::vector<Placement> rows = {Placement::sharded(0)};
  EXPECT_EQ(box({3, 5}, {4}, {0}, rows), Box({0, 0}, {1, 5}));
  EXPECT_EQ(box({3, 5}, {4}, {3}, rows), Box({3, 0}, {0, 5}));
  EXPECT_EQ(box({5}, {4}, {2}, rows), Box({4}, {1}));
  EXPECT_EQ(box({5}, {4}, {3}, rows), Box({5}, {0}));
  EXPECT_EQ(box({5}, {1'000'000'000'000}, {999'999'999'999}, rows), Box({5}, {0}));
}

TEST(LocalBox, MeshesOfTwoDimensionsCutFromLeftToRight) {
  EXPECT_EQ(box({8, 6}, {2, 2}, {1, 0}, {Placement::sharded(0), Placement::sharded(1)}), Box({4, 0}, {4, 3}));
  EXPECT_EQ(box({8}, {2, 2}, {1, 1}, {Placement::sharded(0), Placement::sharded(0)}), Box({6}, {2}));
  EXPECT_EQ(box({8}, {2, 2}, {1, 1}, {Placement::replicated(), Placement::sharded(-1)}), Box({4}, {4}));
  EXPECT_EQ(box({}, {2}, {1}, {Placement::replicated()}), Box());
}

// FSDP over tensor parallelism of one dimension, as torch.distributed writes it.
TEST(LocalBox, AStridedShardIsRightWhereItIsABox) {
  const std::vector<Placement> both = {Placement::strided(0, 2), Placement::sharded(0)};
  EXPECT_EQ(box({8, 8}, {2, 2}, {0, 1}, both), Box({4, 0}, {2, 8}));
  EXPECT_EQ(box({8, 8}, {2, 2}, {1, 0}, both), Box({2, 0}, {2, 8}));
}

TEST(LocalBox, AStridedShardThatIsNoBoxIsRefusedByName) {
  EXPECT_ERROR(box({8}, {2}, {0}, {Placement::strided(0, 2)}), Code::unsupported, "_StridedShard");
  EXPECT_EQ(box({8}, {2}, {0}, {Placement::strided(0, 1)}), Box({0}, {4}));
}

TEST(LocalBox, PartialIsRefusedByName) {
  EXPECT_ERROR(box({8}, {2}, {0}, {Placement::summed()}), Code::unsupported, "Partial");
}

TEST(LocalBox, NumbersThatDoNotFitAreErrors) {
  EXPECT_ERROR(box({8}, {2}, {2}, {Placement::sharded(0)}), Code::invalid_argument, "coordinate 2");
  EXPECT_ERROR(box({8}, {2}, {-1}, {Placement::sharded(0)}), Code::invalid_argument, "coordinate -1");
  EXPECT_ERROR(box({8}, {2}, {0}, {Placement::sharded(1)}), Code::invalid_argument, "Shard(1)");
  EXPECT_ERROR(box({8}, {2}, {0}, {Placement::sharded(-2)}), Code::invalid_argument, "Shard(-2)");
  EXPECT_ERROR(box({8}, {2}, {0}, {Placement::strided(0, 0)}), Code::invalid_argument, "split_factor 0");
  EXPECT_ERROR(box({8}, {2, 2}, {0}, {Placement::sharded(0)}), Code::invalid_argument, "mesh of 2");
  EXPECT_ERROR(box({-8}, {2}, {0}, {Placement::sharded(0)}), Code::invalid_argument, "no tensor");
}

TEST(LocalBox, TheBoxesOfAllRanksCoverTheTensorExactlyOnce) {
  std::mt19937 random(5);
  for (int i = 0; i < 2000; ++i) {
    const Shape shape = testing::random_shape(random);
    const Shape mesh = {testing::random_number(random, 1, 4), testing::random_number(random, 1, 4)};
    std::vector<Placement> placements;
    for (std::size_t k = 0; k < mesh.size(); ++k) {
      placements.push_back(
          Placement::sharded(testing::random_number(random, 0, static_cast<std::int64_t>(shape.size()) - 1)));
    }
    BoxList boxes(shape.size());
    for (std::int64_t row = 0; row < mesh[0]; ++row) {
      for (std::int64_t column = 0; column < mesh[1]; ++column) boxes.add(box(shape, mesh, {row, column}, placements));
    }
    EXPECT_TRUE(check_cover(shape, boxes).is_complete());
  }
}

}  // namespace
}  // namespace torchkeep
