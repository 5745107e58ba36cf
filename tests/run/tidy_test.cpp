// SPDX-License-Identifier: BSD-3-Clause
// A run from outside: why each checkpoint is kept, what prune and rm remove, and the curves.
#include <gtest/gtest.h>
#include <limits>
#include <string>
#include <vector>

#include <torchkeep/files/lock.h>
#include <torchkeep/run/checkpoints.h>
#include <torchkeep/run/curves.h>
#include <torchkeep/run/overview.h>
#include <torchkeep/run/tidy.h>

#include "fake_training.h"
#include "retain.h"
#include "support/expect_error.h"
#include "support/memory_fs.h"
#include "support/whole_file.h"

namespace torchkeep {
namespace {

using torchkeep::testing::create_file;
using torchkeep::testing::FakeTraining;
using torchkeep::testing::MemoryFs;

using Steps = std::vector<std::int64_t>;

/// A run with a checkpoint at each step; the loss is lowest at step 3.
struct Finished {
  MemoryFs fs;

  explicit Finished(RunOptions options = {}) {
    options.save_every = 1;
    if (options.keep_last == RunOptions().keep_last) options.keep_last = 100;
    options.best_metric = "loss";
    train(options, 6);
  }
  void train(RunOptions options, std::int64_t last) {
    options.fs = &fs;
    Engine engine("/run", options);
    FakeTraining training;
    training.track(engine);
    std::int64_t step = engine.resume();
    while (step < last) {
      training.step();
      ++step;
      engine.finish_step(step, Value{{"loss", static_cast<double>((step - 3) * (step - 3))}});
      engine.wait();
    }
  }
  Steps steps() {
    Steps steps;
    for (const CheckpointInfo& one : list_checkpoints("/run", fs)) steps.push_back(one.step);
    return steps;
  }
  std::string path(std::int64_t step) { return "/run/step-0000000" + std::to_string(step) + ".pt"; }
};

Steps steps_of(const std::vector<SetAside>& files) {
  Steps steps;
  for (const SetAside& one : files) steps.push_back(one.step);
  return steps;
}

KeepRules rules(std::int64_t last, std::int64_t every = 0, std::int64_t best = 0) {
  return {.last = last, .every = every, .best = best, .by = BestBy{"loss", Best::min}};
}

TEST(LookAtRun, GivesAReasonForExactlyTheCheckpointsThatRetentionKeeps) {
  Finished run;
  pin_checkpoint("/run", 1, run.fs);
  for (const KeepRules& each : {rules(1), rules(2), rules(1, 2), rules(1, 0, 1), rules(2, 4, 2), rules(9)}) {
    const RunOptions options{.keep_last = each.last, .keep_every = each.every, .keep_best = each.best};
    std::vector<Candidate> candidates;
    Steps unexplained;
    for (const CheckpointOverview& one : look_at_run("/run", each, run.fs).checkpoints) {
      candidates.push_back({one.step, one.metrics["loss"].to<double>(), one.pinned});
      if (one.kept_by.empty()) unexplained.push_back(one.step);
    }
    EXPECT_EQ(unexplained, surplus(candidates, options, 6)) << each.last << ' ' << each.every << ' ' << each.best;
  }
}

TEST(LookAtRun, KnowsTheRulesThatTheRunHad) {
  Finished run(RunOptions{.keep_last = 4, .keep_every = 2, .keep_best = 1});
  const RunOverview overview = look_at_run("/run", {}, run.fs);
  ASSERT_TRUE(overview.rules);
  EXPECT_EQ(overview.rules->last, 4);
  EXPECT_EQ(overview.rules->every, 2);
  EXPECT_EQ(overview.rules->best, 1);
  EXPECT_EQ(overview.rules->by->metric, "loss");
  EXPECT_TRUE(overview.checkpoints.back().last);
}

TEST(LookAtRun, TellsAMissingFolderFromAFile) {
  MemoryFs fs;
  EXPECT_ERROR(look_at_run("/none", {}, fs), Code::not_found, "/none");
  create_file(fs, "/file", "x");
  EXPECT_ERROR(look_at_run("/file", {}, fs), Code::invalid_argument, "/file");
}

TEST(PruneRun, RemovesWhatNoRuleKeepsAndADryRunRemovesNothing) {
  Finished run;
  pin_checkpoint("/run", 1, run.fs);
  const Removal dry = prune_run("/run", rules(1, 0, 1), {.dry_run = true}, run.fs);
  EXPECT_EQ(steps_of(dry.removed), (Steps{2, 4, 5}));
  EXPECT_EQ(run.steps(), (Steps{1, 2, 3, 4, 5, 6}));
  EXPECT_EQ(steps_of(prune_run("/run", rules(1, 0, 1), {}, run.fs).removed), (Steps{2, 4, 5}));
  EXPECT_EQ(run.steps(), (Steps{1, 3, 6}));
}

TEST(PruneRun, RemovesNothingWhileTheNewestIsDamaged) {
  Finished run;
  run.fs.remove(run.path(6));
  create_file(run.fs, run.path(6), "no zip");
  EXPECT_ERROR(prune_run("/run", rules(1), {}, run.fs), Code::corrupt, "00006");
  EXPECT_EQ(run.steps().size(), 6u);
}

TEST(PruneRun, KeepsWhatMayBeTheBestAsLongAsItCannotBeRead) {
  Finished run;
  run.fs.remove(run.path(2));
  create_file(run.fs, run.path(2), "no zip");
  prune_run("/run", rules(1, 0, 1), {}, run.fs);
  EXPECT_EQ(run.steps(), (Steps{2, 3, 6}));
  prune_run("/run", rules(1), {}, run.fs);
  EXPECT_EQ(run.steps(), Steps{6});
}

TEST(PruneRun, LeavesARunningRunAlone) {
  Finished run;
  const Lock lock(run.fs, "/run/.lock");
  EXPECT_ERROR(prune_run("/run", rules(1), {}, run.fs), Code::busy, "");
  EXPECT_ERROR(remove_checkpoints("/run", {1}, {}, run.fs), Code::busy, "");
  EXPECT_EQ(run.steps().size(), 6u);
  EXPECT_EQ(steps_of(prune_run("/run", rules(5), {.dry_run = true}, run.fs).removed), Steps{1});
}

TEST(PruneRun, WantsToKnowHowManyToKeep) {
  Finished run;
  EXPECT_ERROR(prune_run("/run", rules(0, 2), {}, run.fs), Code::invalid_argument, "at least");
  EXPECT_ERROR(prune_run("/run", KeepRules{.last = 1, .best = 1}, {}, run.fs), Code::invalid_argument, "metric");
}

TEST(RemoveCheckpoints, RemovesAllOrNothing) {
  Finished run;
  pin_checkpoint("/run", 2, run.fs);
  EXPECT_ERROR(remove_checkpoints("/run", {1, 7, 8}, {}, run.fs), Code::not_found, "step 7, of step 8");
  EXPECT_ERROR(remove_checkpoints("/run", {1, 6}, {}, run.fs), Code::invalid_argument, "newest");
  EXPECT_ERROR(remove_checkpoints("/run", {1, 2}, {}, run.fs), Code::invalid_argument, "pinned: step 2");
  EXPECT_EQ(run.steps().size(), 6u);
  const Removal done = remove_checkpoints("/run", {1, 2, 6}, {.pinned = true, .newest = true}, run.fs);
  EXPECT_EQ(steps_of(done.removed), (Steps{1, 2, 6}));
  EXPECT_EQ(run.steps(), (Steps{3, 4, 5}));
  EXPECT_FALSE(run.fs.status("/run/pin-00000002"));
}

TEST(RemoveBroken, RemovesOnlyWhatWasSetAside) {
  Finished run;
  create_file(run.fs, "/run/step-00000009.pt.broken", "x");
  create_file(run.fs, "/run/step-00000009.pt.broken-2", "xy");
  EXPECT_EQ(remove_broken("/run", {}, run.fs).bytes, 3u);
  EXPECT_TRUE(look_at_run("/run", {}, run.fs).broken.empty());
  EXPECT_EQ(run.steps().size(), 6u);
}

TEST(ReadCurves, HasEveryStepOnceAndRemembersEveryResume) {
  Finished run;
  run.train({.save_every = 1, .keep_last = 100}, 8);
  run.train({.save_every = 1, .keep_last = 100}, 9);
  const RunCurves curves = read_curves("/run", run.fs);
  ASSERT_EQ(curves.metrics.size(), 1u);
  EXPECT_EQ(curves.metrics[0].steps, (Steps{1, 2, 3, 4, 5, 6, 7, 8, 9}));
  EXPECT_EQ(curves.metrics[0].values[3], 1.0);
  EXPECT_EQ(curves.resumed_at, (Steps{6, 8}));
}

TEST(ReadCurves, PassesOverStepsThatNoStepCanBe) {
  MemoryFs fs;
  fs.make_directory("/run");
  create_file(fs, "/run/metrics.jsonl",
              "{\"step\": 9223372036854775807, \"loss\": 1}\n{\"step\": 9223372036854775808, \"loss\": 2}\n"
              "{\"step\": 18446744073709551616, \"loss\": 3}\n");
  const RunCurves curves = read_curves("/run", fs);
  EXPECT_EQ(curves.bad_lines, 2u);
  ASSERT_EQ(curves.metrics.size(), 1u);
  EXPECT_EQ(curves.metrics[0].steps, Steps{std::numeric_limits<std::int64_t>::max()});
}

TEST(ReadCurves, PassesOverBrokenLinesAndTheOneBeingWritten) {
  MemoryFs fs;
  fs.make_directory("/run");
  create_file(fs, "/run/metrics.jsonl",
              "{\"step\": 1, \"loss\": \"NaN\", \"note\": \"text\"}\nbroken\n{\"loss\": 1}\n{\"step\": 2, \"lr\": "
              "1}\n{\"step\": 3");
  const RunCurves curves = read_curves("/run", fs);
  EXPECT_EQ(curves.bad_lines, 2u);
  ASSERT_EQ(curves.metrics.size(), 2u);
  EXPECT_TRUE(curves.metrics[0].values[0] != curves.metrics[0].values[0]);
  EXPECT_EQ(curves.metrics[1].name, "lr");
  EXPECT_EQ(curves.metrics[1].steps, Steps{2});
}

}  // namespace
}  // namespace torchkeep
