// SPDX-License-Identifier: BSD-3-Clause
// ResumableSampler: what was used is what is saved, and a load continues exactly there.
#include <algorithm>
#include <gtest/gtest.h>
#include <set>
#include <vector>

#include <torchkeep/data/sampler.h>

#include "support/expect_error.h"

namespace torchkeep {
namespace {

using Samples = std::vector<std::size_t>;

/// The next `epochs` epochs, as a plain loop takes them.
Samples take_epochs(ResumableSampler& sampler, int epochs, std::size_t batch) {
  Samples all;
  for (int i = 0; i < epochs; ++i) {
    sampler.reset();
    for (Samples some = sampler.take(batch); !some.empty(); some = sampler.take(batch)) {
      all.insert(all.end(), some.begin(), some.end());
    }
  }
  return all;
}

TEST(Sampler, EveryEpochHasEverySampleOnceInANewOrder) {
  ResumableSampler sampler(100, {.seed = 3});
  Samples first = take_epochs(sampler, 1, 7);
  EXPECT_EQ(sampler.epoch(), 0U);
  Samples second = take_epochs(sampler, 1, 7);
  EXPECT_EQ(sampler.epoch(), 1U);
  EXPECT_NE(first, second);
  std::sort(first.begin(), first.end());
  std::sort(second.begin(), second.end());
  for (std::size_t i = 0; i < 100; ++i) EXPECT_TRUE(first[i] == i && second[i] == i);
}

TEST(Sampler, WithoutShuffleCountsUp) {
  ResumableSampler sampler(5, {.shuffle = false});
  EXPECT_EQ(take_epochs(sampler, 2, 2), (Samples{0, 1, 2, 3, 4, 0, 1, 2, 3, 4}));
}

TEST(Sampler, ContinuesFromEveryPosition) {
  ResumableSampler whole(23, {.seed = 11});
  const Samples expected = take_epochs(whole, 3, 4);
  for (std::size_t stop = 0; stop <= 23; ++stop) {
    ResumableSampler sampler(23, {.seed = 11});
    Samples seen = take_epochs(sampler, 1, 4);
    sampler.reset();
    for (std::size_t i = 0; i < stop; ++i) seen.push_back(sampler.take(1).at(0));
    ResumableSampler resumed(23, {.seed = 0});
    resumed.load_state_dict(sampler.state_dict());
    EXPECT_EQ(resumed.remaining(), 23 - stop);
    const Samples rest = take_epochs(resumed, 2, 4);  // of this epoch, and the next one
    seen.insert(seen.end(), rest.begin(), rest.end());
    EXPECT_EQ(resumed.epoch(), 2U);
    EXPECT_EQ(seen, expected) << "stopped after " << stop;
  }
}

TEST(Sampler, DrawingAheadDoesNotMoveTheSavedPosition) {
  ResumableSampler sampler(100, {.seed = 1});
  sampler.reset();
  const Samples first = *sampler.next(10);
  for (int i = 0; i < 4; ++i) sampler.next(10);
  EXPECT_EQ(sampler.state_dict()["position"].to<int>(), 0);
  EXPECT_EQ(sampler.advance_batch(), 10U);
  EXPECT_EQ(sampler.state_dict()["position"].to<int>(), 10);

  ResumableSampler resumed(100);
  resumed.load_state_dict(sampler.state_dict());
  resumed.reset();
  const Samples next = *resumed.next(10);
  EXPECT_NE(next, first);
  ResumableSampler again(100, {.seed = 1});
  again.next(10);
  EXPECT_EQ(next, *again.next(10));
}

TEST(Sampler, CopiesShareThePosition) {
  ResumableSampler sampler(10, {.shuffle = false});
  ResumableSampler moved = sampler;
  moved.reset();
  moved.next(4);
  sampler.advance(4);
  EXPECT_EQ(moved.remaining(), 6U);
}

TEST(Sampler, AdvanceCountsSamplesAcrossBatches) {
  ResumableSampler sampler(10, {.shuffle = false});
  sampler.next(4);
  sampler.next(4);
  sampler.advance(3);
  sampler.advance(2);
  EXPECT_EQ(sampler.advance_batch(), 3U);
  EXPECT_EQ(sampler.remaining(), 2U);
}

TEST(Sampler, ResetRightAfterALoadKeepsThePosition) {
  ResumableSampler sampler(10, {.shuffle = false});
  sampler.take(7);
  const Value state = sampler.state_dict();
  sampler.load_state_dict(state);
  sampler.reset();
  EXPECT_EQ(sampler.take(2), (Samples{7, 8}));
  sampler.reset();  // the epoch was begun: on to the next
  EXPECT_EQ(sampler.epoch(), 1U);
}

TEST(Sampler, AStateSavedAtTheEndOfAnEpochGivesAnEmptyRestThenTheNextEpoch) {
  ResumableSampler sampler(6, {.shuffle = false});
  sampler.take(6);
  ResumableSampler resumed(6, {.shuffle = false});
  resumed.load_state_dict(sampler.state_dict());
  resumed.reset();
  EXPECT_EQ(resumed.epoch(), 0U);
  EXPECT_TRUE(resumed.take(6).empty());
  resumed.reset();
  EXPECT_EQ(resumed.epoch(), 1U);
  EXPECT_EQ(resumed.take(6).size(), 6U);
}

TEST(Sampler, ResetWithoutADrawStaysInTheEpoch) {
  ResumableSampler sampler(6);
  sampler.reset();
  sampler.reset();
  EXPECT_EQ(sampler.epoch(), 0U);
}

TEST(Sampler, WhatWasDrawnAndNotUsedIsForgottenByResetAndLoad) {
  ResumableSampler sampler(10, {.shuffle = false});
  sampler.next(4);
  sampler.reset();
  EXPECT_ERROR(sampler.advance_batch(), Code::invalid_argument, "did not draw");
  sampler.next(4);
  sampler.load_state_dict(sampler.state_dict());
  EXPECT_ERROR(sampler.advance(1), Code::invalid_argument, "0 were drawn");
}

TEST(Sampler, RefusesToUseMoreThanWasDrawn) {
  ResumableSampler sampler(10);
  sampler.next(4);
  EXPECT_ERROR(sampler.advance(5), Code::invalid_argument, "4 were drawn");
  EXPECT_EQ(sampler.remaining(), 10U);
}

TEST(Sampler, KnowsThatNobodyReportsWhatWasUsed) {
  ResumableSampler sampler(10);
  EXPECT_FALSE(sampler.is_unattended());
  sampler.next(2);
  EXPECT_TRUE(sampler.is_unattended());
  sampler.advance_batch();
  EXPECT_FALSE(sampler.is_unattended());
}

/// What `shards` workers of one run take in an epoch, row by row.
std::vector<Samples> deal(std::uint64_t size, std::uint64_t shards, bool drop, const Value* state = nullptr) {
  std::vector<Samples> taken;
  for (std::uint64_t shard = 0; shard < shards; ++shard) {
    ResumableSampler sampler(size, {.seed = 2, .shard = shard, .shards = shards, .drop_uneven = drop});
    if (state != nullptr) sampler.load_state_dict(*state);
    taken.push_back(take_epochs(sampler, 1, 3));
  }
  return taken;
}

TEST(Sampler, ShardsShareAnEpochAndFillTheLastRow) {
  const auto taken = deal(10, 4, false);
  std::multiset<std::size_t> all;
  for (const Samples& samples : taken) {
    EXPECT_EQ(samples.size(), 3U);
    all.insert(samples.begin(), samples.end());
  }
  for (std::size_t i = 0; i < 10; ++i) EXPECT_GE(all.count(i), 1U);
  ResumableSampler whole(10, {.seed = 2});
  const Samples order = whole.take(10);
  EXPECT_EQ(taken[2][2], order[0]);  // position 10 is position 0 again
  EXPECT_EQ(taken[3][2], order[1]);
}

TEST(Sampler, DropUnevenLeavesTheLastRowOut) {
  std::set<std::size_t> all;
  for (const Samples& samples : deal(10, 4, true)) {
    EXPECT_EQ(samples.size(), 2U);
    all.insert(samples.begin(), samples.end());
  }
  EXPECT_EQ(all.size(), 8U);
}

TEST(Sampler, MoreShardsThanSamplesAllGetOne) {
  for (const Samples& samples : deal(2, 5, false)) EXPECT_EQ(samples.size(), 1U);
}

TEST(Sampler, TheRestOfAnEpochMayBeDealtToAnotherNumberOfShards) {
  ResumableSampler one_of_two(30, {.seed = 2, .shard = 1, .shards = 2});
  one_of_two.take(6);  // and the other took as many: 12 positions
  const Value state = one_of_two.state_dict();
  EXPECT_EQ(state["position"].to<int>(), 12);
  ResumableSampler whole(30, {.seed = 2});
  whole.take(12);
  const Samples rest = whole.take(30);
  Samples dealt;
  const auto taken = deal(30, 3, false, &state);
  for (std::size_t row = 0; row < 6; ++row) {
    for (const Samples& samples : taken) dealt.push_back(samples.at(row));
  }
  EXPECT_EQ(dealt, rest);
}

TEST(Sampler, AShardContinuesItsOwnSequence) {
  const SamplerOptions options{.seed = 2, .shard = 1, .shards = 4};
  ResumableSampler whole(10, options);
  const Samples expected = take_epochs(whole, 2, 1);
  ResumableSampler sampler(10, options);
  Samples seen = sampler.take(2);
  ResumableSampler resumed(10, options);
  resumed.load_state_dict(sampler.state_dict());
  const Samples rest = take_epochs(resumed, 2, 1);
  seen.insert(seen.end(), rest.begin(), rest.end());
  EXPECT_EQ(seen, expected);
}

TEST(Sampler, TheStateIsPlainAndComplete) {
  ResumableSampler sampler(10, {.seed = 0xffff'ffff'ffff'ffff});
  sampler.take(3);
  EXPECT_EQ(sampler.state_dict(), (Value{{"order", "feistel-1"},
                                         {"size", 10},
                                         {"seed", std::uint64_t{0xffff'ffff'ffff'ffff}},
                                         {"epoch", 0},
                                         {"position", 3}}));
}

TEST(Sampler, TheLoadedSeedReplacesTheOwn) {
  ResumableSampler saved(1000, {.seed = 5});
  ResumableSampler loaded(1000, {.seed = 6});
  loaded.load_state_dict(saved.state_dict());
  EXPECT_EQ(loaded.take(1000), saved.take(1000));
}

TEST(Sampler, AStateOfAnotherOrderIsRefusedWithAllItsDifferences) {
  ResumableSampler sampler(10);
  sampler.take(4);
  const Value before = sampler.state_dict();
  ResumableSampler other(11, {.shuffle = false});
  EXPECT_ERROR(sampler.load_state_dict(other.state_dict()), Code::mismatch,
               "order 'sequential' in the file, 'feistel-1' here; 11 samples in the file, 10 here");
  EXPECT_ERROR(sampler.load_state_dict(Value{{"order", "feistel-1"}}), Code::not_found, "size");
  EXPECT_EQ(sampler.state_dict(), before);
}

TEST(Sampler, AnAbsurdPositionIsTheEndOfTheEpoch) {
  ResumableSampler sampler(10);
  Value state = sampler.state_dict();
  state.set("position", ~std::uint64_t{0});
  sampler.load_state_dict(state);
  sampler.reset();
  EXPECT_FALSE(sampler.next(4).has_value());
}

TEST(Sampler, RefusesAShardOutsideItsRow) {
  EXPECT_ERROR(ResumableSampler(10, {.shard = 2, .shards = 2}), Code::invalid_argument, "shard 2 of 2");
  EXPECT_ERROR(ResumableSampler(10, {.shard = 0, .shards = 0}), Code::invalid_argument, "shard 0 of 0");
}

TEST(Sampler, AnEmptyDataSetIsAlwaysOver) {
  ResumableSampler sampler(0);
  sampler.reset();
  EXPECT_FALSE(sampler.next(1).has_value());
  EXPECT_TRUE(sampler.take(1).empty());
}

}  // namespace
}  // namespace torchkeep
