// SPDX-License-Identifier: BSD-3-Clause
// Every disk that kills and power cuts could leave behind a training of several ranks, and every broken variant of the
// protocol, which must be noticed.
//
// TORCHKEEP_CRASH_IMAGES=1000000 checks that many (`make crash-ranks`).
#include <gtest/gtest.h>
#include <iostream>
#include <string>

#include <torchkeep/ranks/folder.h>

#include "ranks/simulation.h"
#include "support/memory_fs.h"
#include "support/whole_file.h"

namespace torchkeep {
namespace {

using torchkeep::testing::CrashFs;
using torchkeep::testing::CrashImage;
using torchkeep::testing::FakeShares;
using torchkeep::testing::MemoryFs;
using torchkeep::testing::Mutant;
using torchkeep::testing::RankRun;
using torchkeep::testing::RankScenario;
using torchkeep::testing::resume_all;
using torchkeep::testing::simulate;

/// What is wrong; empty when nothing is.
struct Findings {
  std::size_t images = 0;
  std::size_t bad = 0;
  std::size_t committed = 0;  ///< saves, so that a test cannot pass by never saving
  std::size_t abandoned = 0;
  std::string first;

  void add(const std::string& what) {
    if (bad++ == 0) first = what;
  }
};

/// A published checkpoint is whole, right and of one save.
std::string wrong_with_published(Fs& fs, std::size_t world) {
  if (!fs.status("/run")) return {};
  for (const std::string& name : fs.list("/run")) {
    const auto step = parse_checkpoint_folder(name);
    if (!step) continue;
    try {
      const CheckpointId id{*step, FakeShares(fs, 0, world).token_of("/run/" + name)};
      for (std::size_t rank = 0; rank < world; ++rank) FakeShares(fs, rank, world).load("/run/" + name, id);
    } catch (const Error& error) {
      return std::string("published, and not whole: ") + error.what();
    }
  }
  return {};
}

/// All ranks begin at one checkpoint, as new as the newest that any of them took for saved.
std::string wrong_with_resume(Fs& fs, std::size_t world, int acknowledged) {
  const RankRun run = resume_all(fs, world);
  if (run.endless) return "the resume does not end";
  for (const auto& outcome : run.resumes) {
    if (outcome->error) return std::string("the resume fails: ") + outcome->error->what();
    if (outcome->checkpoint != run.resumes[0]->checkpoint) return "the ranks resume from different checkpoints";
    if (!outcome->damaged.empty()) return "a damaged checkpoint was published: " + outcome->damaged[0].why;
  }
  const auto& checkpoint = run.resumes[0]->checkpoint;
  if ((checkpoint ? checkpoint->step : 0) < acknowledged) return "what was reported as saved is gone";
  for (const std::string& name : fs.list("/run")) {
    if (is_hidden_folder(name)) return "a hidden folder stays: " + name;
  }
  return {};
}

void check(const RankScenario& scenario, const CrashFs& crash, const CrashImage& image, Findings& findings) {
  ++findings.images;
  MemoryFs fs(image.disk);
  std::string wrong = wrong_with_published(fs, scenario.world);
  if (wrong.empty() && fs.status("/run")) wrong = wrong_with_resume(fs, scenario.world, image.acknowledged);
  if (wrong.empty() && !fs.status("/run") && image.acknowledged > 0) wrong = "the folder is gone";
  if (!wrong.empty()) findings.add(wrong + "\n" + crash.story(image));
}

void examine(const RankScenario& scenario, std::uint64_t seed, std::size_t images_per_point, Findings& findings) {
  CrashFs crash;
  const RankRun run = simulate(scenario, crash, seed);
  if (run.endless) findings.add("seed " + std::to_string(seed) + ": the run does not end");
  findings.committed += run.committed.size();
  crash.for_each_image({.images_per_point = images_per_point, .seed = seed},
                       [&](const CrashImage& image) { check(scenario, crash, image, findings); });
}

TEST(RankCrash, AllRanksFindWhatAnyOfThemTookForSaved) {
  Findings findings;
  std::uint64_t seed = 1;
  for (; findings.images < testing::crash_images_wanted(); ++seed) {
    examine(RankScenario::draw(seed), seed, 24, findings);
    ASSERT_EQ(findings.bad, 0U) << "seed " << seed << ": " << findings.first;
  }
  EXPECT_GT(findings.committed, seed / 2);
  std::cout << findings.images << " disk images of " << seed - 1 << " runs with " << findings.committed << " saves\n";
}

/// A mutant is noticed within this many runs.
constexpr std::uint64_t kRuns = 1000;

void expect_noticed(Mutant mutant, const std::string& by) {
  Findings findings;
  for (std::uint64_t seed = 1; seed <= kRuns && findings.bad == 0; ++seed) {
    RankScenario scenario = RankScenario::draw(seed);
    scenario.mutant = mutant;
    examine(scenario, seed, 24, findings);
  }
  EXPECT_NE(findings.first.find(by), std::string::npos) << findings.images << " images; " << findings.first;
}

TEST(RankCrash, AReportBeforeTheSyncIsNoticed) {
  expect_noticed(Mutant::report_before_sync, "not whole");
}
TEST(RankCrash, AFileThatIsNotSyncedIsNoticed) {
  expect_noticed(Mutant::no_file_sync, "not whole");
}
TEST(RankCrash, AFolderThatIsNotSyncedIsNoticed) {
  expect_noticed(Mutant::no_folder_sync, "not whole");
}
TEST(RankCrash, ARenameThatIsNotSyncedIsNoticed) {
  expect_noticed(Mutant::no_parent_sync, "is gone");
}
TEST(RankCrash, AnIndexThatIsSyncedBeforeItIsWrittenIsNoticed) {
  expect_noticed(Mutant::index_before_sync, "not whole");
}
TEST(RankCrash, ACommitWithoutTheLastReportIsNoticed) {
  expect_noticed(Mutant::smaller_quorum, "not whole");
}
TEST(RankCrash, AVerdictBeforeTheRenameIsNoticed) {
  expect_noticed(Mutant::verdict_before_rename, "is gone");
}
TEST(RankCrash, ALeftoverThatIsRemovedUnderItsOwnNameIsNoticed) {
  expect_noticed(Mutant::removed_in_place, "not whole");
}
TEST(RankCrash, ARemovalThatIsNotSyncedFirstIsNoticed) {
  expect_noticed(Mutant::removed_unsynced, "not whole");
}

}  // namespace
}  // namespace torchkeep
