// SPDX-License-Identifier: BSD-3-Clause
// What is kept and what goes, and that a pin always holds.
#include "retain.h"

#include <cmath>
#include <gtest/gtest.h>
#include <limits>
#include <string>
#include <vector>

#include <torchkeep/run/checkpoints.h>
#include <torchkeep/run/names.h>

#include "fake_training.h"
#include "support/expect_error.h"
#include "support/fault_fs.h"
#include "support/memory_fs.h"
#include "support/whole_file.h"

namespace torchkeep {
namespace {

using torchkeep::testing::create_file;
using torchkeep::testing::FakeRun;
using torchkeep::testing::MemoryFs;

using Steps = std::vector<std::int64_t>;
constexpr double kNan = std::numeric_limits<double>::quiet_NaN();

std::vector<Candidate> candidates(const Steps& steps) {
  std::vector<Candidate> all;
  for (const std::int64_t step : steps) all.push_back({step, std::nullopt, false});
  return all;
}

Steps steps_in(Fs& fs, const std::string& directory = "/run") {
  Steps steps;
  for (const CheckpointInfo& one : list_checkpoints(directory, fs)) steps.push_back(one.step);
  return steps;
}

TEST(Retention, KeepsTheLastOnes) {
  EXPECT_EQ(surplus(candidates({1, 2, 3, 4, 5}), {.keep_last = 2}, 5), (Steps{1, 2, 3}));
  EXPECT_EQ(surplus(candidates({1, 2}), {.keep_last = 2}, 2), Steps{});
  EXPECT_EQ(surplus(candidates({}), {.keep_last = 2}, 0), Steps{});
}

TEST(Retention, KeepLastOfZeroKeepsAll) {
  EXPECT_EQ(surplus(candidates({1, 2, 3, 4, 5}), {.keep_last = 0}, 5), Steps{});
}

TEST(Retention, KeepsMultiplesForever) {
  EXPECT_EQ(surplus(candidates({50, 100, 150, 200, 250}), {.keep_last = 1, .keep_every = 100}, 250), (Steps{50, 150}));
}

TEST(Retention, KeepsTheBestAndNaNIsNeverBest) {
  const std::vector<Candidate> all = {
      {1, 0.5, false}, {2, kNan, false}, {3, 0.1, false}, {4, {}, false}, {5, 0.9, false}};
  EXPECT_EQ(surplus(all, {.keep_last = 1, .keep_best = 1, .best_metric = "loss"}, 5), (Steps{1, 2, 4}));
  EXPECT_EQ(best_steps(all, 2, Best::min), (Steps{3, 1}));
  EXPECT_EQ(best_steps(all, 2, Best::max), (Steps{5, 1}));
  EXPECT_EQ(best_steps(all, 9, Best::max), (Steps{5, 1, 3}));
}

TEST(Retention, OfEquallyGoodOnesTheOlderIsBetter) {
  const std::vector<Candidate> all = {{3, 0.1, false}, {1, 0.1, false}, {2, 0.1, false}};
  EXPECT_EQ(best_steps(all, 1, Best::min), Steps{1});
  EXPECT_EQ(best_steps(all, 1, Best::max), Steps{1});
}

TEST(Retention, InfinitiesAreOrdinaryMetrics) {
  const double infinity = std::numeric_limits<double>::infinity();
  const std::vector<Candidate> all = {{1, infinity, false}, {2, 1.0, false}, {3, -infinity, false}};
  EXPECT_EQ(best_steps(all, 3, Best::min), (Steps{3, 2, 1}));
}

TEST(Retention, NeverTakesThePinnedOrTheNewestVerified) {
  std::vector<Candidate> all = candidates({1, 2, 3, 4, 5});
  all[0].pinned = true;
  EXPECT_EQ(surplus(all, {.keep_last = 1}, 3), Steps{2});
}

TEST(Retention, ARunKeepsWhatItsOptionsSay) {
  MemoryFs fs;
  FakeRun run(fs, {.save_every = 1, .keep_last = 2, .keep_every = 5});
  run.train(13);
  EXPECT_EQ(steps_in(fs), (Steps{5, 10, 12, 13}));
  EXPECT_EQ(run.log.count(Event::Kind::pruned), 9U);
}

TEST(Retention, ARunKeepsItsBestByAMetricAcrossProcesses) {
  MemoryFs fs;
  const RunOptions options{.save_every = 1, .keep_last = 1, .keep_best = 2, .best_metric = "score", .best = Best::max};
  const auto train = [&](const std::vector<double>& scores) {
    FakeRun run(fs, options);
    for (const double score : scores) {
      run.training.step();
      run.engine.finish_step(run.engine.step() + 1, Value{{"score", score}});
      run.engine.wait();
    }
  };
  train({0.1, 0.9, kNan, 0.5});
  EXPECT_EQ(steps_in(fs), (Steps{2, 4}));
  train({0.7, 0.2});
  EXPECT_EQ(steps_in(fs), (Steps{2, 5, 6}));
  EXPECT_EQ(find_checkpoint("/run", "best", {}, fs), "/run/step-00000002.pt");
  EXPECT_EQ(find_checkpoint("/run", "last", {}, fs), "/run/step-00000006.pt");
}

TEST(Pin, HoldsAgainstAllRules) {
  MemoryFs fs;
  FakeRun run(fs, {.save_every = 1, .keep_last = 1});
  run.train(2);
  pin_checkpoint("/run", 2, fs);
  run.train(5);
  EXPECT_EQ(steps_in(fs), (Steps{2, 5}));
  EXPECT_TRUE(unpin_checkpoint("/run", 2, fs));
  EXPECT_FALSE(unpin_checkpoint("/run", 2, fs));
  run.train(6);
  EXPECT_EQ(steps_in(fs), Steps{6});
}

TEST(Pin, RefusesACheckpointThatIsNotThereAndLeavesNoPin) {
  MemoryFs fs;
  fs.make_directory("/run");
  EXPECT_ERROR(pin_checkpoint("/run", 3, fs), Code::not_found, "step-00000003.pt: no such checkpoint to pin");
  EXPECT_TRUE(fs.list("/run").empty());
}

TEST(Pin, SetAtAnyMomentOfARemovalEitherHoldsOrIsRefused) {
  // A removal makes these calls: look for the pin, rename, look again, remove. Another process pins between any two.
  for (int before_call = 0; before_call <= 4; ++before_call) {
    MemoryFs fs;
    fs.make_directory("/run");
    create_file(fs, "/run/step-00000001.pt", "a checkpoint");
    bool told_pinned = false;
    const auto pin = [&] {
      try {
        pin_checkpoint("/run", 1, fs);
        told_pinned = true;
      } catch (const Error& error) {
        EXPECT_EQ(error.code(), Code::not_found);
      }
    };
    int calls = 0;
    class Watching final : public testing::FaultFs {
     public:
      Watching(Fs& inner, std::function<void()> before) : FaultFs(inner, {}), before_(std::move(before)) {}
      std::optional<FileStatus> status(const std::string& path) override {
        before_();
        return FaultFs::status(path);
      }
      void rename(const std::string& from, const std::string& to) override {
        before_();
        FaultFs::rename(from, to);
      }
      void remove(const std::string& path) override {
        before_();
        FaultFs::remove(path);
      }

     private:
      std::function<void()> before_;
    };
    Watching watching(fs, [&] {
      if (calls++ == before_call) pin();
    });
    CheckpointStore(watching, "/run").remove(1);
    EXPECT_EQ(calls, told_pinned && before_call == 0 ? 1 : 4);
    if (told_pinned) {
      EXPECT_TRUE(fs.status("/run/step-00000001.pt")) << "pinned before call " << before_call << ", and gone";
    }
  }
}

TEST(Pin, AKilledRemovalIsTakenBackAtTheNextStart) {
  MemoryFs fs;
  { FakeRun(fs, {.save_every = 1, .keep_last = 2}).train(2); }
  fs.rename("/run/step-00000001.pt", "/run/.step-00000001.pt.doomed");
  FakeRun run(fs, {.save_every = 1, .keep_last = 2});
  EXPECT_EQ(steps_in(fs), (Steps{1, 2}));
  EXPECT_FALSE(fs.status("/run/.step-00000001.pt.doomed"));
}

TEST(Pin, WhatWasDoomedGivesWayToANewOneOfItsName) {
  MemoryFs fs;
  { FakeRun(fs, {.save_every = 1}).train(2); }
  create_file(fs, "/run/.step-00000002.pt.doomed", "an old one");
  FakeRun run(fs, {.save_every = 1});
  EXPECT_FALSE(fs.status("/run/.step-00000002.pt.doomed"));
  EXPECT_EQ(run.engine.step(), 2);
}

}  // namespace
}  // namespace torchkeep
