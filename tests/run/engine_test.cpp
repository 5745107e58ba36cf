// SPDX-License-Identifier: BSD-3-Clause
// When a run saves, how it stops and ends, and two processes in one directory.
#include <csignal>
#include <gtest/gtest.h>
#include <string>
#include <sys/wait.h>
#include <unistd.h>
#include <vector>

#include <torchkeep/checkpoint/checkpoint.h>
#include <torchkeep/run/checkpoints.h>
#include <torchkeep/run/names.h>
#include <torchkeep/state/rewrite.h>

#include "fake_training.h"
#include "support/conformance.h"
#include "support/expect_error.h"
#include "support/memory_fs.h"
#include "support/temp_dir.h"
#include "support/whole_file.h"

namespace torchkeep {
namespace {

using torchkeep::testing::create_file;
using torchkeep::testing::FakeRun;
using torchkeep::testing::FakeTraining;
using torchkeep::testing::MemoryFs;

using Steps = std::vector<std::int64_t>;

Steps steps_in(Fs& fs) {
  Steps steps;
  for (const CheckpointInfo& one : list_checkpoints("/run", fs)) steps.push_back(one.step);
  return steps;
}

// ---- when to save

TEST(SavePolicy, EverySoManySteps) {
  MemoryFs fs;
  FakeRun(fs, {.save_every = 4, .keep_last = 0}).train(13);
  EXPECT_EQ(steps_in(fs), (Steps{4, 8, 12}));
}

TEST(SavePolicy, AMultipleThatIsJumpedOverIsSavedAtTheNextStep) {
  MemoryFs fs;
  FakeRun run(fs, {.save_every = 10, .keep_last = 0});
  for (const std::int64_t step : {7, 14, 19, 21, 45}) run.engine.finish_step(step);
  run.engine.wait();
  EXPECT_EQ(steps_in(fs), (Steps{14, 21, 45}));
}

TEST(SavePolicy, EverySoManySeconds) {
  MemoryFs fs;
  FakeRun(fs, {.save_seconds = 1e-9, .keep_last = 0}).train(3);
  EXPECT_EQ(steps_in(fs), (Steps{1, 2, 3}));
  MemoryFs rarely;
  FakeRun(rarely, {.save_seconds = 1e9}).train(3);
  EXPECT_EQ(steps_in(rarely), Steps{});
}

TEST(SavePolicy, WithoutOneEveryTenMinutes) {
  MemoryFs fs;
  EXPECT_EQ(FakeRun(fs, {}).engine.options().save_seconds, 600);
  EXPECT_EQ(FakeRun(fs, {.save_every = 5}, "/other").engine.options().save_seconds, 0);
}

TEST(SavePolicy, OnDemand) {
  MemoryFs fs;
  FakeRun run(fs, {.save_every = 100});
  run.train(3);
  EXPECT_TRUE(run.engine.save_now());
  EXPECT_EQ(steps_in(fs), Steps{3});
  EXPECT_TRUE(run.engine.save_now()) << "once more, over the same name";
  EXPECT_EQ(steps_in(fs), Steps{3});
}

TEST(SavePolicy, AtTheEndOnceAndOnlyWhatIsNotSaved) {
  MemoryFs fs;
  FakeRun run(fs, {.save_every = 5, .keep_last = 0});
  run.train(7);
  run.engine.finish();
  EXPECT_EQ(steps_in(fs), (Steps{5, 7}));
  EXPECT_EQ(run.log.count(Event::Kind::saved), 2U);
  run.engine.finish();
  EXPECT_EQ(run.log.count(Event::Kind::saved), 2U);
  EXPECT_EQ(run.log.count(Event::Kind::finished), 1U);
}

// ---- stopping

TEST(Stop, TheNextFinishedStepIsSavedAndThenItSaysStop) {
  MemoryFs fs;
  FakeRun run(fs, {.save_every = 100});
  run.train(3);
  run.engine.request_stop();
  EXPECT_TRUE(run.engine.stop_requested());
  EXPECT_FALSE(run.engine.stopping());
  run.train(100);
  EXPECT_EQ(run.engine.step(), 4);
  EXPECT_EQ(steps_in(fs), Steps{4});
  run.engine.finish();
  EXPECT_EQ(run.engine.exit_code(), kExitAgain);
  EXPECT_EQ(run.log.count(Event::Kind::stop_requested), 1U);
  EXPECT_FALSE(run.engine.finished());
}

TEST(Stop, SaysWhichSignalAskedForIt) {
  MemoryFs fs;
  for (const auto& [signal, words] :
       {std::pair(0, "stopping at step 1 as requested; run the program again to continue\n"),
        std::pair(SIGTERM, "stopping at step 1 on SIGTERM; run the program again to continue\n")}) {
    FakeRun run(fs, {.save_every = 100}, std::string("/run") + std::to_string(signal));
    run.engine.request_stop(signal);
    run.train(100);
    EXPECT_EQ(run.log.text(Event::Kind::stop_requested), words);
  }
}

TEST(Stop, AfterTheLastStepIsStillNotFinished) {
  MemoryFs fs;
  {
    FakeRun run(fs, {.save_every = 100});
    run.train(3);
    run.engine.request_stop();
    run.engine.finish();
    EXPECT_TRUE(run.engine.stopping());
    EXPECT_EQ(run.engine.exit_code(), kExitAgain);
    EXPECT_EQ(steps_in(fs), Steps{3});
  }
  FakeRun again(fs, {});
  again.engine.finish();
  EXPECT_EQ(again.engine.exit_code(), kExitDone);
}

TEST(ExitCode, SaysDoneOnlyAfterFinish) {
  MemoryFs fs;
  FakeRun run(fs, {.save_every = 1});
  run.train(3);
  EXPECT_EQ(run.engine.exit_code(), kExitAgain);
  run.engine.finish();
  EXPECT_EQ(run.engine.exit_code(), kExitDone);
  EXPECT_TRUE(run.engine.finished());
}

TEST(ExitCode, AFinishedRunSaysSoAtItsNextStart) {
  MemoryFs fs;
  {
    FakeRun run(fs, {.save_every = 2});
    run.train(4);
    run.engine.finish();
  }
  {
    FakeRun run(fs, {});
    EXPECT_TRUE(run.engine.finished());
    EXPECT_EQ(run.log.text(Event::Kind::finished), "already finished at step 4 of /run\n");
    run.engine.finish();
    EXPECT_EQ(run.engine.exit_code(), kExitDone);
    EXPECT_EQ(run.log.count(Event::Kind::saved), 0U);
    EXPECT_EQ(run.log.count(Event::Kind::finished), 1U);
  }
  FakeRun longer(fs, {.save_every = 2});
  longer.train(6);
  EXPECT_FALSE(longer.engine.finished());
  EXPECT_FALSE(fs.status("/run/finished-00000004"));
}

// ---- two processes

TEST(Roles, ASecondWriterIsToldWhoIsThereAndThatItMayRead) {
  MemoryFs fs;
  FakeRun first(fs, {});
  EXPECT_ERROR(FakeRun(fs, {}), Code::busy, "locked by process");
  EXPECT_ERROR(FakeRun(fs, {}), Code::busy, "Role::reader");
}

TEST(Roles, AnotherProcessIsToldWhoIsThereAndMayRead) {
  const testing::TempDir folder;
  const std::string directory = folder / "run";
  FakeRun writer(posix_fs(), {.save_every = 1}, directory);
  writer.train(3);
  const std::string holder = "process " + std::to_string(::getpid());
  const pid_t child = ::fork();
  if (child == 0) {
    bool told = false;
    try {
      FakeRun(posix_fs(), {}, directory);
    } catch (const Error& error) {
      const std::string what = error.what();
      told = error.code() == Code::busy && what.find(holder) != std::string::npos &&
             what.find("Role::reader") != std::string::npos;
    }
    const FakeRun reader(posix_fs(), {.role = Role::reader}, directory);
    ::_exit(told && reader.training.state() == FakeTraining::after(3) ? 0 : 1);
  }
  int status = -1;
  ::waitpid(child, &status, 0);
  EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0) << status;
}

TEST(Roles, AReaderContinuesAndNeverWrites) {
  MemoryFs fs;
  FakeRun writer(fs, {.save_every = 2});
  writer.train(4);
  bool changed = false;
  fs.observe([&](const testing::DiskEvent&) { changed = true; });
  FakeRun reader(fs, {.save_every = 1, .role = Role::reader});
  EXPECT_EQ(reader.engine.step(), 4);
  EXPECT_EQ(reader.training.state(), FakeTraining::after(4));
  reader.train(6);
  EXPECT_FALSE(reader.engine.save_now());
  reader.engine.finish();
  EXPECT_EQ(reader.engine.exit_code(), kExitDone);
  EXPECT_FALSE(changed);
}

TEST(Roles, AReaderStopsWhenAsked) {
  MemoryFs fs;
  FakeRun reader(fs, {.role = Role::reader});
  reader.engine.request_stop();
  reader.train(9);
  EXPECT_EQ(reader.engine.step(), 1);
  reader.engine.finish();
  EXPECT_EQ(reader.engine.exit_code(), kExitAgain);
}

TEST(Roles, TheWriterRemovesWhatAKilledOneLeft) {
  MemoryFs fs;
  FakeRun(fs, {.save_every = 1}).train(1);
  create_file(fs, "/run/.step-00000002.pt.tmp-123-4", "half");
  FakeRun(fs, {.role = Role::reader});
  EXPECT_TRUE(fs.status("/run/.step-00000002.pt.tmp-123-4"));
  FakeRun run(fs, {});
  EXPECT_FALSE(fs.status("/run/.step-00000002.pt.tmp-123-4"));
  EXPECT_EQ(run.log.text(Event::Kind::cleaned), "removed an unfinished file that a killed process left in /run\n");
}

TEST(Roles, AWriterWithoutItsLockDoesNotSave) {
  MemoryFs fs;
  FakeRun run(fs, {.save_every = 1});
  run.train(1);
  fs.remove("/run/.lock");
  run.train(2);
  EXPECT_EQ(steps_in(fs), Steps{1});
  EXPECT_NE(run.log.text(Event::Kind::save_failed).find("lock file was deleted"), std::string::npos);
}

/// The same memory, as somebody's who goes on working with it.
StoragePtr lent(const StoragePtr& storage) {
  if (storage->data() == nullptr) return storage;
  auto* const memory = const_cast<std::byte*>(storage->data());  // nobody writes to it
  return std::make_shared<BorrowedStorage>(MutableBytes(memory, static_cast<std::size_t>(storage->nbytes())), storage);
}

TEST(Engine, KeepsEveryStateInTheBackground) {
  for (const auto& [name, value] : testing::conformance_states()) {
    MemoryFs fs;
    Engine engine("/run", {.save_every = 1, .on_event = [](const Event&) {}, .fs = &fs});
    engine.track("state", {.capture = [&state = value] { return with_storages(state, lent); },
                           .prepare = [](const Value&) { return [] {}; }});
    engine.resume();
    engine.finish_step(1);
    engine.finish();
    ASSERT_TRUE(engine.last_save() && engine.last_save()->background) << name;
    EXPECT_TRUE(load("/run/" + names::checkpoint(1), {.fs = &fs})["state"] == value) << name;
  }
}

}  // namespace
}  // namespace torchkeep
