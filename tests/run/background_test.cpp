// SPDX-License-Identifier: BSD-3-Clause
// Saves in the background: the training goes on, what is published is the state of its step, and whatever changes a
// state while it is written keeps it from being published. Runs under ThreadSanitizer too (`make tsan`).
#include <algorithm>
#include <cerrno>
#include <chrono>
#include <functional>
#include <gtest/gtest.h>
#include <memory>
#include <string>
#include <sys/wait.h>
#include <thread>
#include <unistd.h>
#include <vector>

#include <torchkeep/checkpoint/checkpoint.h>
#include <torchkeep/run/checkpoints.h>
#include <torchkeep/run/names.h>

#include "fake_training.h"
#include "paused_fs.h"
#include "support/fault_fs.h"
#include "support/memory_fs.h"
#include "support/temp_dir.h"
#include "support/whole_file.h"

namespace torchkeep {
namespace {

using testing::FakeRun;
using testing::FakeTraining;
using testing::FaultFs;
using testing::LiveNumbers;
using testing::MemoryFs;
using testing::PausedFs;

// Two tensors of 5.6 MB: several blocks to write, several pieces to copy aside.
constexpr std::size_t kElements = 700'000;
constexpr std::uint64_t kState = 2 * kElements * sizeof(std::int64_t);

/// All checkpoints, none of which may be of another state than that of its step.
std::vector<std::int64_t> exact_steps(Fs& fs, const std::string& directory = "/run") {
  std::vector<std::int64_t> steps;
  for (const CheckpointInfo& one : list_checkpoints(directory, fs)) {
    Value state = load(one.path, {.fs = &fs});
    for (const char* const key : {"step", "layout_version", "metrics", "provenance"}) state.erase(key);
    EXPECT_TRUE(state == FakeTraining::after(one.step, kElements)) << "step " << one.step;
    steps.push_back(one.step);
  }
  for (const std::string& name : fs.list(directory)) EXPECT_EQ(name.find(".tmp-"), std::string::npos) << name;
  return steps;
}
using Steps = std::vector<std::int64_t>;

const RunOptions kEveryStep{.save_every = 1, .keep_last = 0};

/// A run whose disk can be stopped.
struct PausedRun {
  MemoryFs disk;
  PausedFs fs{disk};
  FakeRun run;

  explicit PausedRun(const RunOptions& options = kEveryStep) : run(fs, options, "/run", kElements) {
    run.waits = false;
  }
  ~PausedRun() { fs.go_on(); }
  /// One step whose save streams and is under way, with some of the first tensor read, when this returns.
  void begin_streaming_save() {
    run.train(1);
    run.engine.wait();
    fs.pause();
    run.train(2);
    fs.wait_for_a_write();
  }
  /// A write outside of every gate to all of a tensor.
  void disturb(bool counted) {
    for (std::int64_t& number : run.training.weights().numbers) number ^= 1;
    run.training.weights().version += counted;
  }
};

TEST(Background, EveryCheckpointIsTheStateOfItsStepAndTheTrainingIsTheSame) {
  MemoryFs fs;
  FakeRun run(fs, kEveryStep, "/run", kElements);
  run.waits = false;
  run.train(12);
  run.engine.finish();
  EXPECT_EQ(exact_steps(fs), (Steps{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12}));
  EXPECT_TRUE(run.training.state() == FakeTraining::after(12, kElements));
  EXPECT_EQ(run.log.warnings(), "");
}

TEST(Background, FinishStepReturnsWhileTheDiskStandsStill) {
  PausedRun paused({.save_every = 5, .keep_last = 0});
  paused.fs.pause();
  paused.run.train(9);
  EXPECT_EQ(paused.run.engine.step(), 9);
  EXPECT_EQ(list_checkpoints("/run", paused.disk).size(), 0U);
  EXPECT_EQ(paused.run.log.count(Event::Kind::saved), 0U);
  paused.fs.go_on();
  paused.run.engine.wait();
  EXPECT_EQ(exact_steps(paused.disk), Steps{5});
  EXPECT_EQ(paused.run.log.count(Event::Kind::saved), 1U);
}

TEST(Background, TheFirstSaveIsCopiedAndTheNextIsReadWhereItLies) {
  PausedRun paused;
  paused.fs.pause();
  paused.run.train(1);
  paused.fs.go_on();
  paused.run.engine.wait();
  EXPECT_GT(paused.run.engine.last_save()->staged_bytes, kState / 2);
  paused.run.train(2);
  paused.run.engine.wait();
  EXPECT_EQ(paused.run.engine.last_save()->staged_bytes, 0U) << "nothing changed before it was written";
  EXPECT_TRUE(paused.run.engine.last_save()->background);
  EXPECT_EQ(exact_steps(paused.disk), (Steps{1, 2}));
}

TEST(Background, WithoutTheGateEverythingIsCopied) {
  PausedRun paused;
  paused.run.train(2);
  paused.run.engine.wait();
  for (std::int64_t step = 3; step <= 4; ++step) {
    paused.run.training.step();
    paused.fs.pause();
    paused.run.engine.finish_step(step);
    paused.fs.go_on();
    paused.run.engine.wait();
    EXPECT_GT(paused.run.engine.last_save()->staged_bytes, kState / 2);
  }
  EXPECT_EQ(exact_steps(paused.disk), (Steps{1, 2, 3, 4}));
}

TEST(Background, TheGateCopiesWhatIsUnwritten) {
  PausedRun paused;
  paused.begin_streaming_save();
  paused.run.engine.gate("optimizer");
  paused.run.training.step();
  paused.fs.go_on();
  paused.run.engine.wait();
  EXPECT_EQ(exact_steps(paused.disk), (Steps{1, 2}));
  EXPECT_GT(paused.run.engine.last_save()->staged_bytes, kState / 2);
  EXPECT_GT(paused.run.engine.last_save()->blocked_seconds, 0);
}

TEST(Background, WithLittleMemoryForCopiesTheTrainingWaitsForTheWriter) {
  for (const std::uint64_t limit : {std::uint64_t{0}, std::uint64_t{16} << 20}) {
    RunOptions options = kEveryStep;
    options.staging_limit = limit;
    MemoryFs fs;
    FakeRun run(fs, options, "/run", 3 * kElements);
    run.waits = false;
    run.train(4);
    run.engine.finish();
    EXPECT_EQ(run.log.warnings(), "");
    EXPECT_EQ(list_checkpoints("/run", fs).size(), 4U);
    const FakeRun again(fs, {.role = Role::reader}, "/run", 3 * kElements);
    EXPECT_TRUE(again.training.state() == FakeTraining::after(4, 3 * kElements));
    if (limit == 0) {
      EXPECT_EQ(run.engine.last_save()->staged_bytes, 0U);
    }
  }
}

TEST(Background, WhoWaitsLooksUpAndMayGiveUpWhileTheSaveGoesOn) {
  struct EnoughOfIt {};
  RunOptions options = kEveryStep;
  bool is_patient = true;
  options.while_waiting = [&is_patient] {
    if (!is_patient) throw EnoughOfIt();
  };
  PausedRun paused(options);
  paused.begin_streaming_save();
  is_patient = false;
  EXPECT_THROW(paused.run.engine.wait(), EnoughOfIt);
  is_patient = true;
  paused.fs.go_on();
  paused.run.engine.wait();
  EXPECT_EQ(exact_steps(paused.disk), (Steps{1, 2}));
}

TEST(Background, WhoGivesUpWhileTheFirstCopiesAreMadeLeavesNothingTornAndTheNextStepSaves) {
  struct EnoughOfIt {};
  RunOptions options = kEveryStep;
  options.save_every = 5;
  options.staging_limit = 0;
  bool is_patient = true;
  PausedRun* waiting = nullptr;
  options.while_waiting = [&] {
    if (is_patient) return;
    waiting->fs.go_on();  // the end of the save that was called off waits for its writer
    throw EnoughOfIt();
  };
  PausedRun paused(options);
  waiting = &paused;
  paused.run.train(4);
  paused.fs.pause();
  is_patient = false;
  EXPECT_THROW(paused.run.train(5), EnoughOfIt);
  is_patient = true;
  paused.run.train(6);
  paused.run.engine.wait();
  EXPECT_EQ(exact_steps(paused.disk).back(), 6);
}

// ---- torn states

/// What both proofs find.
class TornState : public ::testing::TestWithParam<Proof> {
 protected:
  RunOptions every_step() const {
    RunOptions options = kEveryStep;
    options.proof = GetParam();
    return options;
  }
};
INSTANTIATE_TEST_SUITE_P(Proofs, TornState, ::testing::Values(Proof::hash, Proof::counters),
                         [](const auto& info) { return info.param == Proof::hash ? "hash" : "counters"; });

TEST_P(TornState, ACountedWriteOutsideTheGateIsFoundThereAndTheStateIsSavedAgain) {
  PausedRun paused(every_step());
  paused.begin_streaming_save();
  paused.disturb(true);
  paused.run.engine.gate("optimizer");
  paused.disturb(true);
  paused.run.training.step();
  paused.fs.go_on();
  paused.run.engine.finish_step(3);
  paused.run.engine.wait();
  EXPECT_EQ(exact_steps(paused.disk), (Steps{1, 3}));
  EXPECT_NE(paused.run.log.warnings().find("the checkpoint of step 2 was dropped, for model changed"),
            std::string::npos);
  EXPECT_EQ(paused.run.log.count(Event::Kind::save_failed), 0U);
}

TEST_P(TornState, WhatWasCaughtIsCopiedFromThenOn) {
  PausedRun paused(every_step());
  paused.begin_streaming_save();
  paused.disturb(true);
  paused.run.engine.gate("optimizer");
  paused.disturb(true);
  paused.run.training.step();
  paused.fs.go_on();
  paused.run.engine.finish_step(3);
  paused.run.engine.wait();
  paused.fs.pause();
  paused.run.train(4);
  paused.fs.wait_for_a_write();
  paused.disturb(true);  // as Embedding(max_norm) does in forward
  paused.run.engine.gate("optimizer");
  paused.disturb(true);
  paused.fs.go_on();
  paused.run.engine.wait();
  EXPECT_EQ(exact_steps(paused.disk), (Steps{1, 3, 4}));
  EXPECT_EQ(paused.run.log.count(Event::Kind::warning), 1U);
}

TEST_P(TornState, AStepWithoutTheGateIsFoundByTheNextFinishStepWhichSavesAgain) {
  PausedRun paused(every_step());
  paused.begin_streaming_save();
  paused.run.training.step();
  paused.fs.go_on();
  paused.run.engine.finish_step(3);
  paused.run.engine.wait();
  EXPECT_EQ(exact_steps(paused.disk), (Steps{1, 3}));
}

TEST_P(TornState, AStepWithoutTheGateIsFoundByWaitAndSavedByTheNextFinishStep) {
  PausedRun paused(every_step());
  paused.begin_streaming_save();
  paused.run.training.step();
  paused.fs.go_on();
  paused.run.engine.wait();
  EXPECT_EQ(exact_steps(paused.disk), Steps{1});
  EXPECT_EQ(paused.run.log.count(Event::Kind::warning), 1U);
  paused.run.engine.finish_step(3);
  paused.run.engine.wait();
  EXPECT_EQ(exact_steps(paused.disk), (Steps{1, 3}));
}

TEST_P(TornState, MemoryThatWasShortenedIsNotReadAnyMore) {
  PausedRun paused(every_step());
  paused.begin_streaming_save();
  paused.run.training.weights().numbers.resize(10);
  paused.run.training.weights().numbers.shrink_to_fit();
  paused.run.engine.gate("optimizer");
  paused.fs.go_on();
  paused.run.engine.wait();
  EXPECT_EQ(exact_steps(paused.disk), Steps{1});
  EXPECT_NE(paused.run.log.warnings().find("the checkpoint of step 2 was dropped"), std::string::npos);
}

RunOptions counting() {
  RunOptions options = kEveryStep;
  options.proof = Proof::counters;
  return options;
}

TEST(Counters, ABufferThatWasExchangedIsFound) {
  PausedRun paused(counting());
  paused.begin_streaming_save();
  const std::vector<std::int64_t> kept = paused.run.training.weights().numbers;
  std::vector<std::int64_t> other = kept;
  paused.run.training.weights().numbers.swap(other);  // `other` keeps the old memory alive
  paused.run.engine.gate("optimizer");
  paused.fs.go_on();
  paused.run.engine.wait();
  EXPECT_EQ(exact_steps(paused.disk), Steps{1});
  EXPECT_EQ(paused.run.log.count(Event::Kind::warning), 1U);
}

TEST(Counters, AWriteThatNobodyCountsIsFoundWhereTheCounterStoodStillBefore) {
  PausedRun paused(counting());
  paused.run.train(1);
  paused.run.engine.wait();
  const std::uint64_t version = paused.run.training.weights().version;
  paused.fs.pause();
  paused.run.engine.gate("optimizer");
  paused.run.training.step();
  paused.run.training.weights().version = version;  // as fused optimizers leave it
  paused.run.engine.finish_step(2);
  paused.fs.wait_for_a_write();
  paused.disturb(false);
  paused.run.engine.gate("optimizer");
  paused.fs.go_on();
  paused.run.engine.wait();
  EXPECT_EQ(exact_steps(paused.disk), Steps{1});
  EXPECT_EQ(paused.run.log.count(Event::Kind::warning), 1U);
}

TEST(Counters, ThatStandStillAreNoReasonToDropAGoodOne) {
  MemoryFs fs;
  FakeRun run(fs, counting(), "/run", kElements);
  run.waits = false;
  for (std::int64_t step = 1; step <= 6; ++step) {
    run.engine.gate("optimizer");
    run.training.step();
    run.training.weights().version = 7;
    run.engine.finish_step(step);
  }
  run.engine.finish();
  EXPECT_EQ(exact_steps(fs), (Steps{1, 2, 3, 4, 5, 6}));
  EXPECT_EQ(run.log.warnings(), "");
}

// ---- the hash: whatever writes, whenever

/// A write to all of a tensor while the writer stands still in front of its block `stop`, on a thread of its own.
struct Disturbance {
  int stop;
  bool counted;
  bool undone;  ///< before the writer goes on
};

std::vector<Disturbance> all_disturbances() {
  std::vector<Disturbance> all;
  for (const int stop : {0, 1, 2, 4, 5, 6, 8, 12}) {
    for (const bool undone : {false, true}) all.push_back({stop, stop % 2 == 0, undone});
  }
  return all;
}

TEST(Hash, WhateverIsWrittenAtWhateverByteOnlyTheStateOfItsStepIsPublished) {
  std::size_t dropped = 0;
  for (const Disturbance& one : all_disturbances()) {
    PausedRun paused;
    paused.run.train(1);
    paused.run.engine.wait();
    paused.fs.pause(one.stop);
    paused.run.train(2);
    paused.fs.wait_for_a_write();
    const auto disturb = [&] { std::thread([&] { paused.disturb(one.counted); }).join(); };
    disturb();
    if (one.undone) disturb();
    paused.fs.go_on();
    paused.run.engine.wait();
    const Steps steps = exact_steps(paused.disk);
    if (one.undone) {
      EXPECT_EQ(steps, (Steps{1, 2})) << "nothing else was ever read";
    }
    dropped += steps == Steps{1};
    if (!one.undone) disturb();
    paused.run.train(3);
    paused.run.engine.finish();
    EXPECT_EQ(exact_steps(paused.disk).back(), 3);
  }
  EXPECT_GE(dropped, 5U) << "the writer stands in front of the tensor that changes, or in its middle";
  EXPECT_LT(dropped, 8U) << "or behind it";
}

TEST(Hash, AWriteThatTheGateCopiesAsideIsFoundInTheCopy) {
  PausedRun paused;
  paused.begin_streaming_save();
  paused.disturb(false);
  paused.run.engine.gate("optimizer");
  paused.disturb(false);
  paused.run.training.step();
  paused.fs.go_on();
  paused.run.engine.finish_step(3);
  paused.run.engine.wait();
  EXPECT_EQ(exact_steps(paused.disk), (Steps{1, 3}));
  EXPECT_NE(paused.run.log.warnings().find("step 2 was dropped, for model changed"), std::string::npos);
}

TEST(Hash, MemoryThatIsExchangedIsNoReasonToDropAGoodOne) {
  PausedRun paused;
  paused.begin_streaming_save();
  std::vector<std::int64_t> other = paused.run.training.weights().numbers;
  paused.run.training.weights().numbers.swap(other);
  ++paused.run.training.weights().version;
  paused.run.engine.gate("optimizer");
  paused.fs.go_on();
  paused.run.engine.wait();
  EXPECT_EQ(exact_steps(paused.disk), (Steps{1, 2}));
  EXPECT_EQ(paused.run.log.warnings(), "");
}

TEST(Hash, AfterTheSecondDropTheWholeStateIsCopiedAndNoThirdOneComes) {
  PausedRun paused;
  paused.run.train(1);
  paused.run.engine.wait();
  std::int64_t step = 1;
  for (LiveNumbers* const part : {&paused.run.training.weights(), &paused.run.training.momentum()}) {
    paused.fs.pause(0);
    paused.run.train(++step);
    paused.fs.wait_for_a_write();
    part->numbers.back() ^= 1;
    paused.fs.go_on();
    paused.run.engine.wait();
    part->numbers.back() ^= 1;
    paused.run.train(++step);
    paused.run.engine.wait();
  }
  EXPECT_EQ(exact_steps(paused.disk), (Steps{1, 3, 5}));
  const std::string warnings = paused.run.log.warnings();
  EXPECT_NE(warnings.find("for model changed"), std::string::npos) << warnings;
  EXPECT_NE(warnings.find("for optimizer changed"), std::string::npos) << warnings;
  EXPECT_NE(warnings.find("from now on the whole state is copied"), std::string::npos) << warnings;
  paused.fs.pause(0);
  paused.run.train(6);
  paused.disturb(false);
  paused.fs.go_on();
  paused.run.engine.wait();
  EXPECT_EQ(paused.run.engine.last_save()->staged_bytes, kState);
  EXPECT_EQ(exact_steps(paused.disk), (Steps{1, 3, 5, 6}));
}

TEST(Hash, WhatASaveOfTheCallersLosesIsTakenAgainAtOnce) {
  for (const bool stops : {false, true}) {
    PausedRun paused({.save_every = 100, .keep_last = 0});
    paused.run.train(1);
    ASSERT_TRUE(paused.run.engine.save_now());
    paused.run.engine.gate("optimizer");
    paused.run.training.step();
    if (stops) paused.run.engine.request_stop();
    paused.fs.pause(0);
    std::thread writer([&paused] {
      paused.fs.wait_for_a_write();
      paused.disturb(false);
      paused.fs.go_on();
    });
    paused.run.engine.finish_step(2);
    EXPECT_TRUE(stops || paused.run.engine.save_now());
    writer.join();
    // The state that was there when the call came to its end: with the write of the other thread.
    const Value saved = load("/run/" + names::checkpoint(2), {.fs = &paused.disk});
    EXPECT_TRUE(saved["model"] == paused.run.training.state()["model"]);
    EXPECT_EQ(paused.run.log.count(Event::Kind::warning), 1U) << paused.run.log.warnings();
  }
}

// ---- what is streamed

/// A training with one more tensor, which no optimizer owns.
struct TeacherRun {
  MemoryFs disk;
  PausedFs fs{disk};
  testing::EventLog log;
  FakeTraining training{kElements};
  LiveNumbers teacher{std::vector<std::int64_t>(kElements, 5)};
  Engine engine;
  std::int64_t step = 0;

  explicit TeacherRun(const std::function<void(TeacherRun&, Tracked&)>& adjust = {})
      : engine("/run", [this] {
          RunOptions options = kEveryStep;
          options.fs = &fs;
          options.on_event = log.listener();
          return options;
        }()) {
    training.track(engine);
    Tracked more{.capture = [this] { return teacher.tensor(); }, .prepare = [](const Value&) { return [] {}; }};
    if (adjust) adjust(*this, more);
    engine.track("teacher", std::move(more));
    engine.resume();
  }
  ~TeacherRun() { fs.go_on(); }
  void train() {
    engine.gate("optimizer");
    training.step();
    engine.finish_step(++step);
  }
  std::int64_t saved_number() {
    const Value saved = load("/run/" + names::checkpoint(step), {.fs = &disk});
    const auto numbers = saved["teacher"].as_tensor().to_vector<std::int64_t>();
    EXPECT_EQ(std::count(numbers.begin(), numbers.end(), numbers.front()), static_cast<std::ptrdiff_t>(kElements));
    return numbers.front();
  }
};

TEST(Streaming, WhatNoOptimizerOwnsIsCopiedAtTheSave) {
  TeacherRun run;
  run.train();
  run.engine.wait();
  run.fs.pause(0);
  run.train();
  run.fs.wait_for_a_write();
  std::fill(run.teacher.numbers.begin(), run.teacher.numbers.end(), 6);
  run.fs.go_on();
  run.engine.wait();
  EXPECT_EQ(run.saved_number(), 5);
  EXPECT_EQ(run.log.warnings(), "");
  EXPECT_GE(run.engine.last_save()->staged_bytes, kElements * sizeof(std::int64_t));
  EXPECT_LT(run.engine.last_save()->staged_bytes, kState) << "what the optimizer owns is not";
}

TEST(Streaming, WhatIsWrittenOutsideOfStepsIsCopiedWhoeverOwnsIt) {
  TeacherRun run([](TeacherRun& self, Tracked& tracked) {
    tracked.gated = [&self] { return std::vector<const void*>{&self.teacher}; };
    tracked.ungated = tracked.gated;
  });
  for (int i = 0; i < 2; ++i) {
    run.engine.gate("teacher");
    run.fs.pause(0);
    run.train();
    run.fs.wait_for_a_write();
    std::fill(run.teacher.numbers.begin(), run.teacher.numbers.end(), 6 + i);
    run.fs.go_on();
    run.engine.wait();
  }
  EXPECT_EQ(run.saved_number(), 6);
  EXPECT_EQ(run.log.warnings(), "");
}

TEST(Streaming, OnlyThoseThatPassedTheirGateSinceTheLastSaveAreReadWhereTheyLie) {
  TeacherRun run([](TeacherRun&, Tracked& tracked) { tracked.gated = [] { return std::vector<const void*>{}; }; });
  run.train();
  run.engine.wait();
  run.engine.gate("teacher");
  run.train();
  run.engine.wait();
  EXPECT_EQ(run.engine.last_save()->staged_bytes, 0U);
  run.fs.pause(0);
  run.train();  // as a generator that is trained every second step
  run.fs.go_on();
  run.engine.wait();
  EXPECT_GT(run.engine.last_save()->staged_bytes, 0U);
  EXPECT_LT(run.engine.last_save()->staged_bytes, kState);
}

TEST(Streaming, WhereMostIsUnwrittenAtTheGateAllIsCopiedAtOnceUntilTheWriterIsQuickEnough) {
  PausedRun paused;
  paused.begin_streaming_save();
  paused.run.engine.gate("optimizer");  // most is unwritten
  paused.run.training.step();
  paused.fs.go_on();
  paused.run.engine.wait();
  paused.fs.pause(0);
  paused.run.engine.finish_step(3);
  paused.fs.go_on();
  paused.run.engine.wait();
  EXPECT_EQ(paused.run.engine.last_save()->staged_bytes, kState) << "at once";
  for (std::int64_t step = 4; step <= 5; ++step) {
    paused.run.train(step);  // everything is written when its gate comes
    paused.run.engine.wait();
  }
  EXPECT_EQ(paused.run.engine.last_save()->staged_bytes, 0U);
  EXPECT_EQ(exact_steps(paused.disk), (Steps{1, 2, 3, 4, 5}));
}

// ---- errors, ends, forks

TEST(Background, AFailingDiskIsToldByTheNextCallAndTheNextSaveWorks) {
  MemoryFs disk;
  FaultFs fs(disk, {.call = 1, .error = ENOSPC, .only = "create /run/.step-00000002"});
  FakeRun run(fs, kEveryStep, "/run", kElements);
  run.waits = false;
  run.train(2);
  run.engine.wait();
  EXPECT_EQ(run.log.count(Event::Kind::save_failed), 1U);
  EXPECT_NE(run.log.warnings().find("No space left on device"), std::string::npos);
  run.train(3);
  run.engine.wait();
  EXPECT_EQ(exact_steps(disk), (Steps{1, 3}));
}

/// What is there when a run ends while a save reads live memory.
Steps after_the_end(Proof proof) {
  MemoryFs disk;
  {
    RunOptions options = kEveryStep;
    options.proof = proof;
    PausedFs fs(disk);
    FakeRun run(fs, options, "/run", kElements);
    run.waits = false;
    run.train(1);
    run.engine.wait();
    fs.pause();
    run.train(2);
    fs.wait_for_a_write();
    fs.go_on();
  }
  return exact_steps(disk);
}

TEST(Background, TheEndOfARunWaitsForASaveThatReadsLiveMemory) {
  EXPECT_EQ(after_the_end(Proof::hash), (Steps{1, 2}));
}

TEST(Counters, TheEndOfARunDropsASaveWithoutConsentAndLeavesNoHalfFile) {
  EXPECT_EQ(after_the_end(Proof::counters), Steps{1})
      << "step 2 was read from live memory: the training did not consent";
}

TEST(Background, TheEndOfARunWaitsForASaveWithConsent) {
  MemoryFs disk;
  {
    FakeRun run(disk, kEveryStep, "/run", kElements);
    run.waits = false;
    run.train(1);
  }
  EXPECT_EQ(exact_steps(disk), Steps{1});
}

TEST(Background, AStopIsTakenAfterItsSaveIsDone) {
  MemoryFs fs;
  FakeRun run(fs, {.save_every = 2, .keep_last = 0}, "/run", kElements);
  run.waits = false;
  run.train(2);
  run.engine.request_stop();
  run.train(100);
  EXPECT_TRUE(run.engine.stopping());
  EXPECT_EQ(exact_steps(fs), (Steps{2, 3}));
}

TEST(Background, TheLastStepIsSavedBeforeItsFinishStepReturnsDueOrNot) {
  PausedRun paused({.save_every = 100, .keep_last = 0});
  for (int step = 1; step <= 3; ++step) {
    paused.run.engine.gate("optimizer");
    paused.run.training.step();
    paused.run.engine.finish_step(step, {}, step == 3);
  }
  paused.disturb(false);  // an evaluation with other weights, which stay
  paused.run.engine.finish();
  EXPECT_EQ(exact_steps(paused.disk), Steps{3});
}

TEST(Background, SaveNowReturnsWhenTheStateIsSaved) {
  MemoryFs fs;
  FakeRun run(fs, {.save_every = 100}, "/run", kElements);
  run.train(3);
  EXPECT_TRUE(run.engine.save_now());
  EXPECT_EQ(exact_steps(fs), Steps{3});
}

TEST(Background, WhatASaveCostIsInTheEventInTheLogAndOnRequest) {
  MemoryFs fs;
  FakeRun run(fs, kEveryStep, "/run", kElements);
  run.train(2);
  const auto& save = run.engine.last_save();
  ASSERT_TRUE(save);
  EXPECT_EQ(save->step, 2);
  EXPECT_EQ(save->bytes, fs.status("/run/" + names::checkpoint(2))->size);
  EXPECT_GT(save->seconds, 0);
  EXPECT_GT(save->blocked_seconds, 0);
  const Event& told = *std::find_if(run.log.events.rbegin(), run.log.events.rend(),
                                    [](const Event& event) { return event.kind == Event::Kind::saved; });
  EXPECT_EQ(told.bytes, save->bytes);
  EXPECT_EQ(told.blocked_seconds, save->blocked_seconds);
  const std::string log = testing::read_file(fs, "/run/saves.jsonl");
  EXPECT_EQ(std::count(log.begin(), log.end(), '\n'), 2);
  EXPECT_NE(log.find("{\"step\":2,\"bytes\":" + std::to_string(save->bytes)), std::string::npos) << log;
}

#if !defined(__SANITIZE_THREAD__)
TEST(Background, AForkedChildNeverPublishesAndNeverWaitsForItsParentsWriter) {
  const testing::TempDir folder;
  const std::string directory = folder / "run";
  PausedFs fs(posix_fs());
  auto run = std::make_unique<FakeRun>(fs, kEveryStep, directory, kElements);
  run->waits = false;
  run->train(1);
  run->engine.wait();
  fs.pause();
  run->train(2);
  fs.wait_for_a_write();
  const pid_t child = ::fork();
  if (child == 0) {
    run->train(4);
    run->engine.wait();
    const bool refused = run->log.warnings().find("was forked from process") != std::string::npos &&
                         run->log.count(Event::Kind::save_failed) == 0;
    run.reset();
    ::_exit(refused ? 0 : 1);
  }
  int status = -1;
  ::waitpid(child, &status, 0);
  EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0) << status;
  EXPECT_EQ(list_checkpoints(directory).size(), 1U);
  fs.go_on();
  run->engine.wait();
  EXPECT_EQ(exact_steps(posix_fs(), directory), (Steps{1, 2}));
}
#endif

}  // namespace
}  // namespace torchkeep
