// SPDX-License-Identifier: BSD-3-Clause
// Every call to the file system fails in turn, once or from then on: training goes on or stops with a clear error, and
// what was saved stays saved.
#include <cerrno>
#include <gtest/gtest.h>
#include <string>
#include <vector>

#include <torchkeep/run/checkpoints.h>

#include "fake_training.h"
#include "support/fault_fs.h"
#include "support/memory_fs.h"
#include "support/ring_fs.h"
#include "support/small_disk.h"
#include "support/whole_file.h"

namespace torchkeep {
namespace {

using torchkeep::testing::Disk;
using torchkeep::testing::FakeRun;
using torchkeep::testing::FakeTraining;
using torchkeep::testing::Fault;
using torchkeep::testing::FaultFs;
using torchkeep::testing::MemoryFs;
using torchkeep::testing::MemoryFsSettings;

const RunOptions kOptions{.save_every = 2, .keep_last = 2, .keep_best = 1, .best_metric = "loss", .best = Best::max};

/// A run that was killed after seven steps, with checkpoints of 2 (the best), 4 and 6.
Disk killed_run() {
  MemoryFs fs;
  FakeRun(fs, kOptions).train(7);
  return fs.disk();
}

/// What a process of the run did on a failing disk: trained to step 12, or gave up with an error.
struct Outcome {
  std::int64_t told_saved = 0;  ///< the newest checkpoint it was told is saved
  std::string error;            ///< of the start; training itself never ends with one
  bool trained = false;
  std::string warnings;
};

enum class Saves { in_turn, beside_the_training };

Outcome train_on(Fs& fs, Saves saves) {
  Outcome outcome;
  try {
    FakeRun run(fs, kOptions);
    run.waits = saves == Saves::in_turn;
    outcome.told_saved = run.engine.step();
    try {
      run.train(12);
      run.engine.finish();
      outcome.trained = run.engine.step() == 12;
    } catch (const std::exception& error) {
      ADD_FAILURE() << "a failing disk ended the training: " << error.what();
    }
    for (const Event& event : run.log.events) {
      if (event.kind == Event::Kind::saved) outcome.told_saved = event.step;
    }
    outcome.warnings = run.log.warnings();
  } catch (const Error& error) {
    outcome.error = error.what();
  }
  return outcome;
}

/// After the disk works again: nothing that was told saved is lost, the state is exact, no temporary file stays.
void expect_nothing_lost(MemoryFs& disk, const Outcome& outcome, const std::string& story) {
  FakeRun run(disk, kOptions);
  EXPECT_GE(run.engine.step(), std::max<std::int64_t>(outcome.told_saved, 6)) << story;
  EXPECT_EQ(run.training.state(), FakeTraining::after(run.engine.step())) << story;
  run.train(14);
  EXPECT_EQ(run.training.state(), FakeTraining::after(14)) << story;
  EXPECT_EQ(run.log.warnings(), "") << story;
  EXPECT_TRUE(disk.status("/run/step-00000002.pt")) << "the best one is gone: " << story;
  for (const std::string& name : disk.list("/run")) EXPECT_EQ(name.find(".tmp-"), std::string::npos) << story;
}

void every_call_fails(int error, bool ever_after, Fault::When when, bool through_ring = false,
                      Saves saves = Saves::in_turn) {
  const Disk start = killed_run();
  bool happened = true;
  std::size_t call = 1;
  for (; happened; ++call) {
    MemoryFs disk(start);
    std::string story;
    Outcome outcome;
    {
      FaultFs fs(disk, {.call = call, .error = error, .and_ever_after = ever_after, .when = when});
      torchkeep::testing::RingFs ring(fs, {.block_size = 1024, .alignment = 64});
      outcome = train_on(through_ring ? static_cast<Fs&>(ring) : fs, saves);
      happened = fs.happened();
      if (happened) story = "call " + std::to_string(call) + ": " + fs.calls().at(call - 1);
    }
    EXPECT_TRUE(outcome.trained || !outcome.error.empty()) << story;
    expect_nothing_lost(disk, outcome, story);
    if (::testing::Test::HasFailure()) return;
  }
  EXPECT_GT(call, 100U);
}

TEST(RunOnAFailingDisk, SurvivesEachCallFailingOnce) {
  for (const int error : {EIO, ENOSPC, EDQUOT, EMFILE, EINTR}) every_call_fails(error, false, Fault::When::before);
}

TEST(RunOnAFailingDisk, SurvivesEachCallFailingFromThenOn) {
  for (const int error : {EIO, ENOSPC, EDQUOT, EMFILE, EINTR}) every_call_fails(error, true, Fault::When::before);
}

TEST(RunOnAFailingDisk, SurvivesShortWritesAndCallsThatFailAfterTheyWorked) {
  for (const bool ever_after : {false, true}) {
    every_call_fails(ENOSPC, ever_after, Fault::When::halfway);
    every_call_fails(EIO, ever_after, Fault::When::after);
  }
}

TEST(RunOnAFailingDisk, SurvivesTheSameThroughARingOfBlocks) {
  every_call_fails(ENOSPC, false, Fault::When::before, true);
  every_call_fails(EIO, false, Fault::When::after, true);
  every_call_fails(ENOSPC, true, Fault::When::halfway, true);
}

TEST(RunOnAFailingDisk, SurvivesTheSameWhileTheTrainingGoesOn) {
  for (const bool ever_after : {false, true}) {
    every_call_fails(ENOSPC, ever_after, Fault::When::halfway, false, Saves::beside_the_training);
    every_call_fails(EIO, ever_after, Fault::When::before, false, Saves::beside_the_training);
  }
}

TEST(RunOnAFullDisk, TellsTheNumbersAndContinuesWhenThereIsRoomAgain) {
  MemoryFs fs({}, MemoryFsSettings{.capacity = 9000});
  FakeRun run(fs, {.save_every = 1, .keep_last = 0, .stop_after_failures = 0});
  run.train(20);
  EXPECT_EQ(run.engine.step(), 20);
  const std::string told = run.log.text(Event::Kind::save_failed);
  for (const char* part :
       {"No space left on device", "bytes needed", "bytes free", "the newest good checkpoint is of step"}) {
    EXPECT_NE(told.find(part), std::string::npos) << part << " in " << told;
  }
  const auto there = list_checkpoints("/run", fs);
  ASSERT_FALSE(there.empty());
  EXPECT_LT(there.back().step, 20);
  for (std::size_t i = 0; i + 1 < there.size(); ++i) fs.remove(there[i].path);
  run.train(21);
  EXPECT_EQ(list_checkpoints("/run", fs).back().step, 21);
}

TEST(RunOnAFullDisk, StopsAfterSoManyFailuresInARowWhenToldTo) {
  MemoryFs fs({}, MemoryFsSettings{.capacity = 100});
  FakeRun run(fs, {.save_every = 1, .stop_after_failures = 3});
  run.train(20);
  EXPECT_EQ(run.engine.step(), 3);
  EXPECT_EQ(run.engine.exit_code(), kExitNotSaved);
  EXPECT_NE(run.log.warnings().find("stopping at step 3: 3 saves in a row failed"), std::string::npos);
}

TEST(RunOnAFullDisk, AnUnsavedEndIsNotDone) {
  MemoryFs fs({}, MemoryFsSettings{.capacity = 100});
  FakeRun run(fs, {.save_every = 100});
  run.train(5);
  run.engine.finish();
  EXPECT_EQ(run.engine.exit_code(), kExitNotSaved);
  EXPECT_FALSE(run.engine.finished());
}

TEST(RunOnAFullDisk, ARealOne) {
  const testing::SmallDisk disk(256 << 10);
  if (!disk.mounted()) GTEST_SKIP() << disk.refusal();
  FakeRun run(posix_fs(), {.save_every = 1, .keep_last = 0, .stop_after_failures = 0}, disk / "run");
  run.train(200);
  EXPECT_EQ(run.engine.step(), 200);
  EXPECT_GT(run.log.count(Event::Kind::save_failed), 0U);
  EXPECT_GT(run.log.count(Event::Kind::saved), 3U);
  const auto there = list_checkpoints(disk / "run");
  for (const std::string& name : posix_fs().list(disk / "run")) EXPECT_EQ(name.find(".tmp-"), std::string::npos);
  FakeRun reader(posix_fs(), {.role = Role::reader}, disk / "run");
  EXPECT_EQ(reader.engine.step(), there.back().step);
  EXPECT_EQ(reader.training.state(), FakeTraining::after(there.back().step));
}

}  // namespace
}  // namespace torchkeep
