// SPDX-License-Identifier: BSD-3-Clause
// Saves and resumes over ranks, told from outside: what is there, what is said, and of whom.
#include <cerrno>
#include <gtest/gtest.h>
#include <memory>
#include <string>
#include <vector>

#include <torchkeep/ranks/folder.h>

#include "ranks/simulation.h"
#include "support/memory_fs.h"
#include "support/whole_file.h"

namespace torchkeep {
namespace {

using torchkeep::testing::CrashFs;
using torchkeep::testing::create_file;
using torchkeep::testing::FakeShares;
using torchkeep::testing::MemoryFs;
using torchkeep::testing::RankRun;
using torchkeep::testing::RankScenario;
using torchkeep::testing::read_file;
using torchkeep::testing::resume_all;
using torchkeep::testing::simulate;

RankScenario quiet(std::size_t world, std::vector<std::int64_t> saves) {
  RankScenario scenario;
  scenario.world = world;
  scenario.saves = std::move(saves);
  scenario.keep = 10;
  scenario.delays = false;
  scenario.kills = 0;
  return scenario;
}

std::vector<std::string> names(Fs& fs) {
  return fs.list("/run");
}

TEST(RankSave, ManySavesLeaveOneFolderEachAndNothingElse) {
  CrashFs crash;
  const RankRun run = simulate(quiet(4, {1, 2, 30}), crash, 1);
  EXPECT_EQ(run.committed, (std::set<std::int64_t>{1, 2, 30}));
  EXPECT_EQ(names(crash.fs()), (std::vector<std::string>{"step-00000001", "step-00000002", "step-00000030"}));
  EXPECT_EQ(crash.fs().list("/run/step-00000002").size(), 6U);  // of four ranks, and the index
  EXPECT_TRUE(run.abandoned.empty());
  EXPECT_TRUE(run.told.empty());
}

TEST(RankSave, RetentionLeavesTheNewest) {
  CrashFs crash;
  RankScenario scenario = quiet(2, {1, 2, 3, 4, 5});
  scenario.keep = 2;
  simulate(scenario, crash, 1);
  EXPECT_EQ(names(crash.fs()), (std::vector<std::string>{"step-00000004", "step-00000005"}));
}

TEST(RankSave, AFullDiskAtOneRankAbandonsTheSaveAndEveryRankHearsWhose) {
  CrashFs crash;
  RankScenario scenario = quiet(4, {1});
  scenario.failing_rank = 3;
  const RankRun run = simulate(scenario, crash, 1);
  EXPECT_TRUE(names(crash.fs()).empty());
  ASSERT_EQ(run.abandoned.size(), 4U);
  for (const std::string& why : run.abandoned) EXPECT_EQ(why, "rank 3 (n1): cannot write: No space left on device");
}

TEST(RankSave, ARankThatDoesNotComeIsNamedAndTheSaveIsAbandoned) {
  CrashFs crash;
  RankScenario scenario = quiet(4, {1, 2});
  scenario.hanging_rank = 2;
  const RankRun run = simulate(scenario, crash, 1);
  EXPECT_TRUE(run.committed.empty());
  EXPECT_TRUE(names(crash.fs()).empty());
  ASSERT_FALSE(run.told.empty());
  EXPECT_EQ(run.told[0].substr(0, 46), "the save of step 1 waits for rank 2 (n1) since") << run.told[0];
  ASSERT_EQ(run.abandoned.size(), 6U);
  EXPECT_EQ(run.abandoned[0], "rank 2 (n1) did not report within 40 s");
}

TEST(RankSave, ACheckpointOfTheSameStepIsNotReplaced) {
  CrashFs crash;
  simulate(quiet(2, {1}), crash, 1);
  const std::string before = read_file(crash.fs(), "/run/step-00000001/manifest");
  FakeShares shares(crash.fs(), 0, 2);
  RankFolder folder(crash.fs(), "/run", shares);
  RankAction action{.kind = RankAction::Kind::work};
  action.checkpoint = CheckpointId{1, "another"};
  for (const RankWork work : {RankWork::make_folder, RankWork::write_share}) {
    action.work = work;
    EXPECT_FALSE(folder.perform(action).error);
  }
  action.work = RankWork::publish;
  const auto error = folder.perform(action).error;
  ASSERT_TRUE(error);
  EXPECT_EQ(error->system_error(), ENOTEMPTY);
  EXPECT_EQ(read_file(crash.fs(), "/run/step-00000001/manifest"), before);
  action.work = RankWork::discard;
  EXPECT_FALSE(folder.perform(action).error);
  EXPECT_EQ(names(crash.fs()), std::vector<std::string>{"step-00000001"});
}

/// Damages a file of rank 1.
void damage(Fs& fs, const std::string& step) {
  const std::string path = "/run/" + step + "/share-1";
  fs.open_write(path)->write_at(0, as_bytes("X"));
}

TEST(RankResume, ARunWithoutCheckpointsBegins) {
  MemoryFs fs;
  fs.make_directory("/run");
  for (const auto& outcome : resume_all(fs, 3).resumes) {
    EXPECT_FALSE(outcome->checkpoint);
    EXPECT_FALSE(outcome->error);
  }
}

TEST(RankResume, DamageThatOneRankFindsTakesAllRanksToTheNextOlder) {
  CrashFs crash;
  simulate(quiet(4, {1, 2, 3}), crash, 1);
  damage(crash.fs(), "step-00000003");
  const RankRun run = resume_all(crash.fs(), 4);
  for (const auto& outcome : run.resumes) {
    ASSERT_TRUE(outcome->checkpoint);
    EXPECT_EQ(outcome->checkpoint->step, 2);
    ASSERT_EQ(outcome->damaged.size(), 1U);
    EXPECT_EQ(outcome->damaged[0].checkpoint.step, 3);
    EXPECT_EQ(outcome->damaged[0].why, "rank 1 (n): /run/step-00000003/share-1: CRC-32");
  }
  EXPECT_EQ(names(crash.fs()), (std::vector<std::string>{"step-00000001", "step-00000002", "step-00000003.broken"}));
}

TEST(RankResume, RanksThatDecideForThemselvesWouldNotMeet) {
  CrashFs crash;
  simulate(quiet(4, {1, 2, 3}), crash, 1);
  damage(crash.fs(), "step-00000003");
  std::set<std::int64_t> found;
  for (std::size_t rank = 0; rank < 4; ++rank) {
    FakeShares shares(crash.fs(), rank, 4);
    for (std::int64_t step = 3; step > 0; --step) {
      const std::string folder = "/run/step-0000000" + std::to_string(step);
      try {
        shares.load(folder, {step, shares.token_of(folder)});
        found.insert(step);
        break;
      } catch (const Error&) {
        continue;
      }
    }
  }
  EXPECT_EQ(found, (std::set<std::int64_t>{2, 3}));
}

TEST(RankResume, AMissingFileOfARankIsDamage) {
  CrashFs crash;
  simulate(quiet(2, {1, 2}), crash, 1);
  crash.fs().remove("/run/step-00000002/share-0");
  for (const auto& outcome : resume_all(crash.fs(), 2).resumes) EXPECT_EQ(outcome->checkpoint->step, 1);
}

TEST(RankResume, FilesOfTwoSavesAreDamage) {
  CrashFs crash;
  simulate(quiet(2, {1, 2}), crash, 1);
  const std::string stale = read_file(crash.fs(), "/run/step-00000001/share-1");
  crash.fs().remove("/run/step-00000002/share-1");
  create_file(crash.fs(), "/run/step-00000002/share-1", stale);
  for (const auto& outcome : resume_all(crash.fs(), 2).resumes) EXPECT_EQ(outcome->checkpoint->step, 1);
}

TEST(RankResume, WithoutAGoodCheckpointEveryReasonIsListedAndNothingIsRenamed) {
  CrashFs crash;
  simulate(quiet(2, {1, 2}), crash, 1);
  damage(crash.fs(), "step-00000001");
  damage(crash.fs(), "step-00000002");
  for (const auto& outcome : resume_all(crash.fs(), 2).resumes) {
    ASSERT_TRUE(outcome->error);
    EXPECT_EQ(outcome->error->code(), Code::corrupt);
    const std::string what = outcome->error->what();
    EXPECT_NE(what.find("no checkpoint is good on all ranks; step 2: rank 1 (n): "), std::string::npos) << what;
    EXPECT_NE(what.find("step 1: rank 1 (n): "), std::string::npos) << what;
  }
  EXPECT_EQ(names(crash.fs()), (std::vector<std::string>{"step-00000001", "step-00000002"}));
}

TEST(RankResume, AFolderWithDamagedCheckpointsOnlyDoesNotBeginAnew) {
  CrashFs crash;
  simulate(quiet(2, {1}), crash, 1);
  crash.fs().rename("/run/step-00000001", "/run/step-00000001.broken");
  for (const auto& outcome : resume_all(crash.fs(), 2).resumes) {
    ASSERT_TRUE(outcome->error);
    EXPECT_NE(std::string(outcome->error->what()).find("step-00000001.broken"), std::string::npos);
  }
}

/// Ranks whose folders are not the same: `folders[rank]`.
std::vector<ResumeOutcome> resume_in(std::vector<Fs*> folders) {
  const std::size_t world = folders.size();
  PeerBoard board;
  struct Rank {
    std::unique_ptr<Peers> peers;
    FakeShares shares;
    RankFolder folder;
    ResumeMember member;
    Rank(PeerBoard& board, Fs& fs, std::size_t rank, std::size_t world)
        : peers(board.peers(rank, world)),
          shares(fs, rank, world),
          folder(fs, "/run", shares),
          member({rank, world, "n" + std::to_string(rank)}, {}, 0) {}
  };
  std::vector<std::unique_ptr<Rank>> ranks;
  for (std::size_t rank = 0; rank < world; ++rank) {
    ranks.push_back(std::make_unique<Rank>(board, *folders[rank], rank, world));
  }
  std::vector<std::string> hosts;
  ResumeLeader leader({0, world, "n0"}, hosts, {}, 0);
  const auto act = [&](RankMachine& machine, Rank& rank) {
    const RankAction action = machine.next(0);
    RankAnswer answer;
    if (action.kind == RankAction::Kind::put) rank.peers->put(action.key, action.value);
    if (action.kind == RankAction::Kind::get) answer.value = rank.peers->get(action.key);
    if (action.kind == RankAction::Kind::work) answer = rank.folder.perform(action);
    if (action.kind == RankAction::Kind::put || action.kind == RankAction::Kind::get ||
        action.kind == RankAction::Kind::work) {
      machine.answer(answer, 0);
    }
  };
  for (int turns = 0; turns < 1000; ++turns) {
    act(leader, *ranks[0]);
    for (auto& rank : ranks) act(rank->member, *rank);
  }
  std::vector<ResumeOutcome> outcomes;
  for (auto& rank : ranks) outcomes.push_back(rank->member.outcome().value());
  return outcomes;
}

TEST(RankResume, RanksThatSeeAnotherFolderAreNamed) {
  CrashFs shared, local, empty;
  simulate(quiet(3, {1, 2}), shared, 1);
  simulate(quiet(3, {1}), local, 1);
  empty.fs().make_directory("/run");
  for (const ResumeOutcome& outcome : resume_in({&shared.fs(), &local.fs(), &empty.fs()})) {
    ASSERT_TRUE(outcome.error);
    EXPECT_EQ(
        std::string(outcome.error->what()),
        "the ranks find different newest checkpoints: rank 2 (n2): none; rank 1 (n1): step 1, save job0t1; rank 0 "
        "(n0): step 2, save job0t2; is the run's folder on a file system that all of them share?");
  }
  for (const ResumeOutcome& outcome : resume_in({&empty.fs(), &empty.fs(), &shared.fs()})) {
    ASSERT_TRUE(outcome.error);
    EXPECT_NE(std::string(outcome.error->what()).find("rank 2 (n2): step 2"), std::string::npos);
  }
  EXPECT_EQ(names(shared.fs()), (std::vector<std::string>{"step-00000001", "step-00000002"}));
}

TEST(RankScale, TenThousandRanksSaveAndResume) {
  constexpr std::size_t kWorld = 10'000;
  MemoryFs fs;
  fs.make_directory("/run");
  PeerBoard board;
  struct Rank {
    std::unique_ptr<Peers> peers;
    FakeShares shares;
    RankFolder folder;
    std::string last_token;
    std::unique_ptr<SaveMember> save;
    std::unique_ptr<ResumeMember> resume;
    Rank(PeerBoard& board, Fs& fs, std::size_t rank)
        : peers(board.peers(rank, kWorld)), shares(fs, rank, kWorld), folder(fs, "/run", shares) {}
  };
  std::vector<std::unique_ptr<Rank>> ranks;
  for (std::size_t rank = 0; rank < kWorld; ++rank) ranks.push_back(std::make_unique<Rank>(board, fs, rank));
  const auto act = [&](RankMachine& machine, Rank& rank) {
    for (RankAction action = machine.next(0);; action = machine.next(0)) {
      RankAnswer answer;
      if (action.kind == RankAction::Kind::wait || action.kind == RankAction::Kind::end) return;
      if (action.kind == RankAction::Kind::put) rank.peers->put(action.key, action.value);
      if (action.kind == RankAction::Kind::get) answer.value = rank.peers->get(action.key);
      if (action.kind == RankAction::Kind::work) answer = rank.folder.perform(action);
      machine.answer(answer, 0);
    }
  };
  std::vector<std::string> hosts;
  SaveLeader leader({0, kWorld, "n"}, {5, "token"}, hosts, {}, 0);
  for (std::size_t rank = 0; rank < kWorld; ++rank) {
    ranks[rank]->save =
        std::make_unique<SaveMember>(RankIdentity{rank, kWorld, "n"}, 5, ranks[rank]->last_token, RankDeadlines{}, 0);
  }
  for (int round = 0; round < 3; ++round) {
    act(leader, *ranks[0]);
    for (auto& rank : ranks) act(*rank->save, *rank);
  }
  ASSERT_TRUE(leader.outcome());
  EXPECT_TRUE(leader.outcome()->committed) << leader.outcome()->why;
  for (auto& rank : ranks) ASSERT_TRUE(rank->save->outcome()->committed);

  ResumeLeader chooser({0, kWorld, "n"}, hosts, {}, 0);
  for (std::size_t rank = 0; rank < kWorld; ++rank) {
    ranks[rank]->resume = std::make_unique<ResumeMember>(RankIdentity{rank, kWorld, "n"}, RankDeadlines{}, 0);
  }
  // Without loading: every rank of this simulation reads the whole index, which would be all that is measured.
  for (int round = 0; round < 4; ++round) {
    act(chooser, *ranks[0]);
    for (auto& rank : ranks) {
      for (RankAction action = rank->resume->next(0);; action = rank->resume->next(0)) {
        RankAnswer answer;
        if (action.kind == RankAction::Kind::wait || action.kind == RankAction::Kind::end) break;
        if (action.kind == RankAction::Kind::put) rank->peers->put(action.key, action.value);
        if (action.kind == RankAction::Kind::get) answer.value = rank->peers->get(action.key);
        rank->resume->answer(answer, 0);
      }
    }
  }
  for (auto& rank : ranks) ASSERT_EQ(rank->resume->outcome()->checkpoint, (CheckpointId{5, "token"}));
}

}  // namespace
}  // namespace torchkeep
