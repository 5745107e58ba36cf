// SPDX-License-Identifier: BSD-3-Clause
// Ranks that are threads, with clocks and boards that are real.
#include <functional>
#include <gtest/gtest.h>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include <torchkeep/ranks/folder.h>
#include <torchkeep/ranks/group.h>

#include "ranks/simulation.h"
#include "support/expect_error.h"
#include "support/temp_dir.h"

namespace torchkeep {
namespace {

using torchkeep::testing::FakeShares;
using torchkeep::testing::TempDir;

constexpr std::size_t kWorld = 3;

/// Does the work of every rank in a thread of its own.
void on_every_rank(const std::function<void(std::size_t rank)>& work) {
  std::vector<std::thread> threads;
  for (std::size_t rank = 0; rank < kWorld; ++rank) threads.emplace_back(work, rank);
  for (std::thread& thread : threads) thread.join();
}

std::unique_ptr<RankGroup> make_group(const std::string& board, std::size_t rank, RankDeadlines deadlines = {}) {
  return std::make_unique<RankGroup>(
      folder_peers(posix_fs(), board, rank, kWorld),
      RankGroup::Options{.host = "n" + std::to_string(rank), .deadlines = deadlines, .poll = 0.001});
}

TEST(RankGroup, SavesAndResumesOverAFolder) {
  const TempDir run, board;
  on_every_rank([&](std::size_t rank) {
    const auto group = make_group(board / "board", rank);
    FakeShares shares(posix_fs(), rank, kWorld);
    RankFolder folder(posix_fs(), run / ".", shares);
    const auto work = [&](const RankAction& action) { return folder.perform(action); };
    EXPECT_FALSE(group->resume(work).checkpoint);
    for (std::int64_t step = 1; step <= 5; ++step) {
      const SaveOutcome outcome = group->save(step, "t" + std::to_string(step), work);
      EXPECT_TRUE(outcome.committed) << outcome.why;
    }
  });
  on_every_rank([&](std::size_t rank) {
    const auto group = make_group(board / "second", rank);
    FakeShares shares(posix_fs(), rank, kWorld);
    RankFolder folder(posix_fs(), run / ".", shares);
    const ResumeOutcome outcome = group->resume([&](const RankAction& action) { return folder.perform(action); });
    EXPECT_EQ(outcome.checkpoint, (CheckpointId{5, "t5"}));
  });
}

TEST(RankGroup, ASaveThatARankDoesNotJoinIsAbandonedOnTheOthers) {
  const TempDir run, board;
  on_every_rank([&](std::size_t rank) {
    if (rank == 1) return;
    const auto group = make_group(board / "board", rank, {.warn_after = 0.01, .give_up_after = 0.1});
    FakeShares shares(posix_fs(), rank, kWorld);
    RankFolder folder(posix_fs(), run / ".", shares);
    const SaveOutcome outcome = group->save(1, "t", [&](const RankAction& action) { return folder.perform(action); });
    EXPECT_FALSE(outcome.committed);
    EXPECT_EQ(outcome.why, "rank 1 did not report within 0.1 s");
    EXPECT_EQ(group->messages().empty(), rank != 0);
  });
  EXPECT_TRUE(posix_fs().list(run / ".").empty());
}

TEST(RankGroup, RanksMeetAtOneStep) {
  const TempDir board;
  std::vector<std::int64_t> met(kWorld);
  std::vector<std::string> reasons(kWorld);
  on_every_rank([&](std::size_t rank) {
    const auto group = make_group(board / "board", rank);
    group->watch(0);
    for (std::int64_t step = 1; met[rank] == 0; ++step) {
      if (rank == 2 && step == 10) group->wish(MeetPurpose::stop, "SIGTERM");
      if (const auto meeting = group->reached(step)) {
        met[rank] = meeting->step;
        reasons[rank] = meeting->reason;
      }
    }
    // The others may still need this one's answers: every rank leaves when all have met.
    group->peers().add("met", 1);
    while (group->peers().add("met", 0) < static_cast<std::int64_t>(kWorld)) std::this_thread::yield();
  });
  EXPECT_EQ(met, std::vector<std::int64_t>(kWorld, met[0]));
  EXPECT_EQ(reasons[0], "SIGTERM at rank 2");
}

TEST(RankGroup, WhatDoesNotComeIsNamedAtTheDeadline) {
  PeerBoard board;
  RankGroup group(board.peers(0, 2), {.deadlines = {.warn_after = 1, .give_up_after = 0.01}});
  EXPECT_ERROR(group.await(
                   "key", [](const std::string&) { return true; }, "the word of " + group.describe(1)),
               Code::io, "the word of rank 1 did not come within 0.01 s");
}

TEST(RankGroup, WaitingEndsWithWhatTheCallerThrows) {
  PeerBoard board;
  struct Interrupted {};
  RankGroup group(board.peers(1, 2), {.while_waiting = [] { throw Interrupted(); }});
  EXPECT_THROW(group.save(1, "", [](const RankAction&) { return RankAnswer(); }), Interrupted);
}

}  // namespace
}  // namespace torchkeep
