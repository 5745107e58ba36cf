// SPDX-License-Identifier: BSD-3-Clause
// Ranks that hear of a stop at different times stop at one step.
#include <gtest/gtest.h>
#include <map>
#include <memory>
#include <optional>
#include <random>
#include <string>
#include <vector>

#include <torchkeep/ranks/meet.h>

namespace torchkeep {
namespace {

constexpr RankDeadlines kDeadlines{.warn_after = 50, .give_up_after = 5000};

/// Ranks whose training and whose look at the board take turns that a seed chooses.
class Trainings {
 public:
  Trainings(std::size_t world, std::uint64_t seed, std::int64_t skew, bool waits)
      : random_(seed), skew_(skew), waits_(waits), hosts_(world) {
    for (std::size_t rank = 0; rank < world; ++rank) {
      ranks_.push_back(std::make_unique<Rank>(RankIdentity{rank, world, ""}));
    }
    leader_ = std::make_unique<MeetLeader>(RankIdentity{0, world, ""}, hosts_, kDeadlines);
  }

  MeetMember& member(std::size_t rank) { return ranks_[rank]->member; }
  std::int64_t step(std::size_t rank) const { return ranks_[rank]->step; }
  void freeze(std::size_t rank) { ranks_[rank]->frozen = true; }
  const std::vector<std::string>& told() const { return told_; }
  Seconds now = 0;

  /// One turn of one of them. `train`: steps are made, too.
  void turn(bool train = true) {
    now += 1;
    const std::size_t which = random_() % (2 * ranks_.size() + 1);
    if (which == 2 * ranks_.size()) return look(*leader_);
    Rank& rank = *ranks_[which / 2];
    if (rank.frozen) return;
    if (which % 2 == 0) return look(rank.member);
    if (train && !rank.met) advance(rank);
  }

  /// Where every rank met; nothing for those that did not yet.
  std::vector<std::optional<Meeting>> met() const {
    std::vector<std::optional<Meeting>> met;
    for (const auto& rank : ranks_) met.push_back(rank->met);
    return met;
  }
  /// They train on after a meeting.
  void go_on() {
    for (auto& rank : ranks_) rank->met.reset();
  }

 private:
  struct Rank {
    explicit Rank(RankIdentity me) : member(me, 0, kDeadlines) {}
    MeetMember member;
    std::int64_t step = 0;
    bool waiting = false;
    bool frozen = false;
    std::optional<Meeting> met;
  };

  void look(RankMachine& machine) {
    const RankAction action = machine.next(now);
    RankAnswer answer;
    if (action.kind == RankAction::Kind::put) board_[action.key] = action.value;
    if (action.kind == RankAction::Kind::get && board_.contains(action.key)) answer.value = board_[action.key];
    if (action.kind == RankAction::Kind::tell) told_.push_back(action.value);
    if (action.kind == RankAction::Kind::put || action.kind == RankAction::Kind::get) machine.answer(answer, now);
  }

  /// The training's own collectives keep ranks within `skew` steps.
  void advance(Rank& rank) {
    if (!rank.waiting) {
      for (const auto& other : ranks_) {
        if (rank.step - other->step >= skew_ && !other->met) return;
      }
      ++rank.step;
    }
    const MeetMember::Answer answer = rank.member.reached(rank.step, now);
    rank.waiting = waits_ && answer == MeetMember::Answer::wait;
    if (answer == MeetMember::Answer::meet) rank.met = rank.member.meeting();
  }

  std::mt19937_64 random_;
  std::int64_t skew_;
  bool waits_;
  std::vector<std::string> hosts_;
  std::vector<std::unique_ptr<Rank>> ranks_;
  std::unique_ptr<MeetLeader> leader_;
  std::map<std::string, std::string> board_;
  std::vector<std::string> told_;
};

bool all_met(const Trainings& trainings) {
  for (const auto& one : trainings.met()) {
    if (!one) return false;
  }
  return true;
}

bool at_one_step(const Trainings& trainings) {
  for (const auto& one : trainings.met()) {
    if (!one || one->step != trainings.met()[0]->step) return false;
  }
  return true;
}

/// One signal at one rank; true when all met at one step.
bool stop_together(std::uint64_t seed, std::int64_t skew, bool waits) {
  Trainings trainings(2 + seed % 7, seed, skew, waits);
  std::mt19937_64 random(seed);
  for (std::uint64_t turns = random() % 300; turns > 0; --turns) trainings.turn();
  const std::size_t world = 2 + seed % 7;
  trainings.member(random() % world).wish(MeetPurpose::stop, "SIGTERM");
  if (random() % 2 == 0) trainings.member(random() % world).wish(MeetPurpose::stop, "SIGTERM");
  for (int turns = 0; turns < 20'000 && !all_met(trainings); ++turns) trainings.turn();
  return at_one_step(trainings);
}

TEST(Meet, AllRanksStopAtOneStepHoweverLateTheyHear) {
  for (std::uint64_t seed = 0; seed < 1500; ++seed) {
    ASSERT_TRUE(stop_together(seed, 1, true)) << "seed " << seed;
    ASSERT_TRUE(stop_together(seed, 1'000'000, true)) << "seed " << seed << ", ranks that do not wait for each other";
  }
}

TEST(Meet, ARankThatDoesNotWaitAtTheProposedStepIsNoticed) {
  int bad = 0;
  for (std::uint64_t seed = 0; seed < 300; ++seed) bad += stop_together(seed, 1, false) ? 0 : 1;
  EXPECT_GT(bad, 30);
}

TEST(Meet, SaysWhereTheWishCameFrom) {
  Trainings trainings(3, 1, 1, true);
  trainings.member(2).wish(MeetPurpose::stop, "SIGTERM");
  while (!all_met(trainings)) trainings.turn();
  EXPECT_EQ(trainings.met()[0]->reason, "SIGTERM at rank 2");
  EXPECT_EQ(trainings.met()[0]->purpose, MeetPurpose::stop);
}

TEST(Meet, OneMeetingFollowsAnother) {
  Trainings trainings(4, 2, 1, true);
  std::int64_t last = 0;
  for (int meeting = 0; meeting < 20; ++meeting) {
    trainings.member(static_cast<std::size_t>(meeting) % 4).wish(MeetPurpose::save, "due");
    for (int turns = 0; turns < 20'000 && !all_met(trainings); ++turns) trainings.turn();
    ASSERT_TRUE(at_one_step(trainings)) << meeting;
    EXPECT_GT(trainings.met()[0]->step, last);
    last = trainings.met()[0]->step;
    trainings.go_on();
  }
}

TEST(Meet, WithoutAWishNoRankWaits) {
  Trainings trainings(3, 3, 1, true);
  for (int turns = 0; turns < 3000; ++turns) trainings.turn();
  EXPECT_GT(trainings.step(0), 100);
  EXPECT_FALSE(all_met(trainings));
}

TEST(Meet, ARankThatIsGoneEndsTheMeetingAtTheDeadlineAndTheOthersTrainOn) {
  Trainings trainings(3, 4, 1'000'000, true);
  for (int turns = 0; turns < 100; ++turns) trainings.turn();
  trainings.freeze(1);
  trainings.member(2).wish(MeetPurpose::stop, "SIGTERM");
  while (trainings.told().empty()) trainings.turn();
  EXPECT_EQ(trainings.told()[0], "the ranks do not meet (SIGTERM at rank 2): rank 1 did not answer within 5000 s");
  const std::int64_t before = trainings.step(0);
  for (int turns = 0; turns < 1000; ++turns) trainings.turn();
  EXPECT_GT(trainings.step(0), before);
}

}  // namespace
}  // namespace torchkeep
