// SPDX-License-Identifier: BSD-3-Clause
// What a call of a run does, whatever comes in between: a listener that throws, a state in the middle of a step, saves
// that no longer work, a forked child, another working directory, a start that failed.
#include <filesystem>
#include <gtest/gtest.h>
#include <stdexcept>
#include <string>
#include <sys/wait.h>
#include <unistd.h>
#include <vector>

#include <torchkeep/checkpoint/checkpoint.h>
#include <torchkeep/run/checkpoints.h>
#include <torchkeep/run/names.h>

#include "fake_training.h"
#include "support/expect_error.h"
#include "support/fault_fs.h"
#include "support/memory_fs.h"
#include "support/temp_dir.h"
#include "support/whole_file.h"

namespace torchkeep {
namespace {

using torchkeep::testing::EventLog;
using torchkeep::testing::FakeRun;
using torchkeep::testing::FakeTraining;
using torchkeep::testing::Fault;
using torchkeep::testing::FaultFs;
using torchkeep::testing::MemoryFs;
using torchkeep::testing::read_file;

std::vector<std::int64_t> steps_in(Fs& fs, const std::string& directory = "/run") {
  std::vector<std::int64_t> steps;
  for (const CheckpointInfo& one : list_checkpoints(directory, fs)) steps.push_back(one.step);
  return steps;
}

// ---- listeners

struct Mine : std::runtime_error {
  using std::runtime_error::runtime_error;
};

TEST(RunListener, WhatItThrowsComesOutOfTheCallWhoseWorkIsDone) {
  for (const bool background : {false, true}) {
    MemoryFs fs;
    EventLog log;
    FakeTraining training;
    RunOptions options{.save_every = 1, .keep_last = 2, .background = background, .fs = &fs};
    options.on_event = [&](const Event& event) {
      log.events.push_back(event);
      if (event.kind == Event::Kind::saved) throw Mine("of step " + std::to_string(event.step));
    };
    Engine engine("/run", options);
    training.track(engine);
    engine.resume();
    int thrown = 0;
    for (std::int64_t step = 1; step <= 4; ++step) {
      engine.gate("optimizer");
      training.step();
      try {
        engine.finish_step(step);
        engine.wait();
      } catch (const Mine&) {
        ++thrown;
      }
    }
    try {
      engine.finish();
    } catch (const Mine&) {
      ++thrown;
    }
    EXPECT_EQ(thrown, 4) << background;
    EXPECT_EQ(log.count(Event::Kind::save_failed), 0U) << log.warnings();
    EXPECT_EQ(log.count(Event::Kind::saved), 4U);
    EXPECT_EQ(steps_in(fs), (std::vector<std::int64_t>{3, 4}));
    EXPECT_EQ(engine.exit_code(), kExitDone);
  }
}

TEST(RunListener, AResumeThatItEndsCanBeCalledAgain) {
  MemoryFs fs;
  FakeRun(fs, {.save_every = 1}).train(2);
  FakeTraining training;
  bool throws = true;
  RunOptions options{.fs = &fs};
  options.on_event = [&](const Event& event) {
    if (event.kind == Event::Kind::resumed && std::exchange(throws, false)) throw Mine("once");
  };
  Engine engine("/run", options);
  training.track(engine);
  EXPECT_THROW(engine.resume(), Mine);
  EXPECT_FALSE(engine.is_resumed());
  EXPECT_EQ(engine.resume(), 2);
  EXPECT_EQ(training.state(), FakeTraining::after(2));
}

/// Something that is no std::exception comes out of reading the log of saves, as Ctrl-C does in Python.
class InterruptedReads final : public FaultFs {
 public:
  struct Interruption {};
  explicit InterruptedReads(Fs& inner) : FaultFs(inner, {}) {}
  std::unique_ptr<ReadAt> open_read(const std::string& path) override {
    if (interrupts && path.ends_with("saves.jsonl")) throw Interruption();
    return FaultFs::open_read(path);
  }
  bool interrupts = false;
};

TEST(RunListener, AnInterruptionWhileASaveIsNotedComesOutOfTheCallAndTheSaveCounts) {
  MemoryFs disk;
  InterruptedReads fs(disk);
  FakeRun run(fs, {.save_every = 1});
  run.train(1);
  run.waits = false;
  run.train(2);
  fs.interrupts = true;
  EXPECT_THROW(run.engine.wait(), InterruptedReads::Interruption);
  fs.interrupts = false;
  EXPECT_EQ(run.engine.saved(), 2);
  EXPECT_EQ(run.log.count(Event::Kind::saved), 1U);
  run.engine.wait();
  EXPECT_EQ(run.log.count(Event::Kind::saved), 2U);  // told by the next call
  run.train(3);
  run.engine.finish();
  EXPECT_EQ(steps_in(fs), (std::vector<std::int64_t>{1, 2, 3}));
}

TEST(RunListener, FindsTheRunAsItIsAfterTheCall) {
  MemoryFs fs;
  std::vector<std::pair<std::int64_t, std::size_t>> seen;
  FakeTraining training;
  Engine* looked_at = nullptr;
  RunOptions options{.save_every = 1, .keep_last = 1, .background = false, .fs = &fs};
  options.on_event = [&](const Event& event) {
    if (event.kind == Event::Kind::saved) seen.emplace_back(looked_at->saved().value_or(-1), steps_in(fs).size());
  };
  Engine engine("/run", options);
  looked_at = &engine;
  training.track(engine);
  engine.resume();
  for (std::int64_t step = 1; step <= 2; ++step) engine.finish_step(step);
  EXPECT_EQ(seen, (std::vector<std::pair<std::int64_t, std::size_t>>{{1, 1}, {2, 1}}));
}

// ---- only finished steps

TEST(MiddleOfAStep, SaveNowLeavesTheCheckpointOfTheStepAlone) {
  MemoryFs fs;
  FakeRun run(fs, {.save_every = 1});
  run.train(3);
  run.engine.gate("optimizer");
  run.training.step();
  EXPECT_TRUE(run.engine.save_now());  // step 3 is saved
  EXPECT_EQ(load("/run/" + names::checkpoint(3), {.fs = &fs})["model"], FakeTraining::after(3)["model"]);
}

TEST(MiddleOfAStep, SaveNowIsMadeUpForAtTheEndOfTheStep) {
  MemoryFs fs;
  FakeRun run(fs, {.save_every = 100});
  run.train(3);
  run.engine.begin_step();
  run.training.step();
  EXPECT_FALSE(run.engine.save_now());
  EXPECT_EQ(steps_in(fs), std::vector<std::int64_t>{});
  EXPECT_NE(run.log.warnings().find("in the middle of the step after 3"), std::string::npos) << run.log.warnings();
  run.engine.finish_step(4);
  run.engine.wait();
  EXPECT_EQ(steps_in(fs), std::vector<std::int64_t>{4});
  EXPECT_EQ(load("/run/" + names::checkpoint(4), {.fs = &fs})["model"], FakeTraining::after(4)["model"]);
}

TEST(MiddleOfAStep, FinishSavesNothingAndSaysWhatIsLost) {
  MemoryFs fs;
  FakeRun run(fs, {.save_every = 2});
  run.train(3);
  run.engine.gate("optimizer");
  run.training.step();
  run.engine.finish();
  EXPECT_EQ(steps_in(fs), std::vector<std::int64_t>{2});
  EXPECT_FALSE(run.engine.finished());
  EXPECT_EQ(run.engine.exit_code(), kExitAgain);
  EXPECT_NE(run.log.warnings().find("in the middle of the step after 3, whose state is gone by now and was not saved; "
                                    "the newest checkpoint is of step 2"),
            std::string::npos)
      << run.log.warnings();
}

TEST(MiddleOfAStep, AStepAfterTheLastCheckpointChangesNothingAboutIt) {
  MemoryFs fs;
  FakeRun run(fs, {.save_every = 1});
  run.train(3);
  run.engine.gate("optimizer");
  run.training.step();
  run.engine.finish();
  EXPECT_TRUE(run.engine.finished());
  EXPECT_EQ(load("/run/" + names::checkpoint(3), {.fs = &fs})["model"], FakeTraining::after(3)["model"]);
}

// ---- saves that no longer work

TEST(SavesThatFail, StopTheRunByDefaultAndSayWhy) {
  MemoryFs fs({}, {.capacity = 100});
  FakeRun run(fs, {.save_every = 1});
  run.train(50);
  EXPECT_EQ(run.engine.step(), 5);
  EXPECT_TRUE(run.engine.stopping());
  run.engine.finish();
  EXPECT_EQ(run.engine.exit_code(), kExitNotSaved);
  EXPECT_ERROR(run.engine.require_saved(), Code::io, "saves in a row failed, and there is no checkpoint");
}

TEST(SavesThatFail, CarryTheExceptionThatLedToThem) {
  MemoryFs fs;
  EventLog log;
  RunOptions options{.save_every = 1, .on_event = log.listener(), .fs = &fs};
  Engine engine("/run", options);
  bool throws = false;
  engine.track("mine", {.capture =
                            [&] {
                              if (throws) throw Mine("no state");
                              return Value(1);
                            },
                        .prepare = [](const Value&) { return [] {}; }});
  engine.resume();
  throws = true;
  engine.finish_step(1);
  ASSERT_EQ(log.count(Event::Kind::save_failed), 1U);
  const Event& failed = log.events.back();
  ASSERT_TRUE(failed.error.has_value());
  EXPECT_THROW(std::rethrow_exception(failed.error->cause()), Mine);
  EXPECT_NE(failed.message.find("no state"), std::string::npos) << failed.message;
  EXPECT_ERROR(engine.require_saved(), Code::io, "no save up to step 1 has worked");
  throws = false;
  engine.finish_step(2);
  engine.wait();
  engine.require_saved();
}

// ---- ends

TEST(RunEnd, ACompleteTrainingIsFinishedThoughAStopWasAskedFor) {
  MemoryFs fs;
  FakeRun run(fs, {.save_every = 100});
  run.train(2);
  run.engine.request_stop();
  run.train(3);
  EXPECT_TRUE(run.engine.stopping());
  run.engine.finish();
  EXPECT_EQ(run.engine.exit_code(), kExitAgain);
  run.engine.finish(true);
  EXPECT_EQ(run.engine.exit_code(), kExitDone);
  EXPECT_EQ(FakeRun(fs, {.role = Role::reader}).engine.exit_code(), kExitDone);
}

// ---- best

TEST(BestMetric, ThatNeverComesIsSaidOnceByName) {
  MemoryFs fs;
  FakeRun run(fs, {.save_every = 1, .keep_best = 1, .best_metric = "val_loss"});
  run.train(6);
  EXPECT_EQ(
      run.log.text(Event::Kind::warning),
      "no finish_step() has given the metric 'val_loss' yet, so no checkpoint is the best one; given were 'loss'\n");
}

std::vector<std::int64_t> saved_on_best(Fs& fs, const std::vector<double>& values, Best best, std::int64_t from = 0) {
  EventLog log;
  FakeTraining training;
  RunOptions options{.save_every = 100, .save_on_best = true, .keep_last = 1, .best_metric = "val", .best = best};
  options.fs = &fs;
  options.on_event = log.listener();
  Engine engine("/run", options);
  training.track(engine);
  engine.resume();
  std::vector<std::int64_t> saved;
  for (std::int64_t step = from + 1; step <= static_cast<std::int64_t>(values.size()); ++step) {
    const double value = values[static_cast<std::size_t>(step - 1)];
    engine.finish_step(step, value == 0 ? Value() : Value{{"val", value}});
    engine.wait();
  }
  for (const Event& event : log.events) {
    if (event.kind == Event::Kind::saved) saved.push_back(event.step);
  }
  return saved;
}

TEST(BestMetric, IsSavedWhenItComesAndKept) {
  const double nan = std::numeric_limits<double>::quiet_NaN();
  MemoryFs fs;
  EXPECT_EQ(saved_on_best(fs, {0, 0, 0, 3, 0, nan, 3, 1, 0, 2, 2}, Best::min), (std::vector<std::int64_t>{4, 8}));
  EXPECT_EQ(find_checkpoint("/run", "best", {}, fs), "/run/" + names::checkpoint(8));
  MemoryFs other;
  EXPECT_EQ(saved_on_best(other, {1, 1, 2, nan, 0, 3}, Best::max), (std::vector<std::int64_t>{1, 3, 6}));
}

TEST(BestMetric, OfTheStepsBeforeAResumeCounts) {
  MemoryFs fs;
  EXPECT_EQ(saved_on_best(fs, {0, 2}, Best::min), std::vector<std::int64_t>{2});
  EXPECT_EQ(saved_on_best(fs, {0, 2, 3, 2, 1.5}, Best::min, 2), std::vector<std::int64_t>{5});
}

TEST(BestMetric, NeedsItsName) {
  MemoryFs fs;
  EXPECT_ERROR(FakeRun(fs, {.save_on_best = true}), Code::invalid_argument, "save_on_best needs best_metric");
}

// ---- starts

/// The disk is full for logs, and has room for checkpoints.
class NoLogs final : public FaultFs {
 public:
  explicit NoLogs(Fs& inner) : FaultFs(inner, {}) {}
  std::unique_ptr<File> create(const std::string& path, const CreateOptions& options) override {
    if (full && path.find("metrics") != std::string::npos) throw Error::from_errno(ENOSPC, "create the file");
    return FaultFs::create(path, options);
  }
  std::unique_ptr<File> open_write(const std::string& path) override {
    if (full) throw Error::from_errno(ENOSPC, "open the file for writing");
    return FaultFs::open_write(path);
  }
  bool full = true;
};

TEST(RunStart, ResumesThoughTheLogOfMetricsCannotBeCutAndCutsItLater) {
  MemoryFs disk;
  FakeRun(disk, {.save_every = 2}).train(3);  // a line of step 3 that is made again
  NoLogs fs(disk);
  FakeRun run(fs, {.save_every = 2});
  EXPECT_EQ(run.engine.step(), 2);
  EXPECT_NE(run.log.warnings().find("metrics are kept in memory"), std::string::npos) << run.log.warnings();
  run.train(5);
  fs.full = false;
  run.train(6);
  MemoryFs whole;
  FakeRun(whole, {.save_every = 2}).train(6);
  EXPECT_EQ(read_file(disk, "/run/metrics.jsonl"), read_file(whole, "/run/metrics.jsonl"));
}

TEST(RunStart, AResumeThatFailedCanBeCalledAgain) {
  MemoryFs fs;
  FakeTraining training;
  Engine engine("/run", {.resume = Resume::required, .role = Role::reader, .fs = &fs});
  training.track(engine);
  EXPECT_ERROR(engine.resume(), Code::not_found, "Resume::required");
  FakeRun(fs, {.save_every = 1}).train(2);
  EXPECT_EQ(engine.resume(), 2);
  EXPECT_EQ(training.state(), FakeTraining::after(2));
  EXPECT_ERROR(engine.resume(), Code::invalid_argument, "resumed already");
}

TEST(RunStart, WhatIsRestoredLastComesLastWheneverItWasTracked) {
  MemoryFs fs;
  std::vector<std::string> order;
  const auto tracked = [&](const std::string& name, bool last) {
    return Tracked{.capture = [] { return Value(1); },
                   .prepare = [&order, name](const Value&) -> std::function<void()> {
                     return [&order, name] { order.push_back(name); };
                   },
                   .last = last};
  };
  for (int i = 0; i < 2; ++i) {
    order.clear();
    Engine engine("/run", {.save_every = 1, .fs = &fs});
    engine.track("rng", tracked("rng", true));
    engine.track("a", tracked("a", false));
    engine.track("b", tracked("b", false));
    engine.finish_step(engine.resume() + 1);
    engine.wait();
  }
  EXPECT_EQ(order, (std::vector<std::string>{"a", "b", "rng"}));
}

// ---- processes and places

TEST(ForkedChild, WritesNothingOfItsParentsRun) {
  const testing::TempDir dir;
  FakeRun run(posix_fs(), {.save_every = 2}, dir / "run");
  run.train(3);
  const std::string metrics = read_file(posix_fs(), dir / "run/metrics.jsonl");
  const auto files = posix_fs().list(dir / "run");
  const pid_t child = ::fork();
  if (child == 0) {
    for (std::int64_t step = 4; step <= 8; ++step) run.engine.finish_step(step, Value{{"who", "child"}});
    const bool saved = run.engine.save_now();
    run.engine.finish();
    const bool said_once = run.log.warnings().find("was forked from process") != std::string::npos &&
                           run.log.count(Event::Kind::warning) == 1;
    ::_exit(!saved && said_once && !run.engine.finished() ? 0 : 1);
  }
  int status = 0;
  ::waitpid(child, &status, 0);
  EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0);
  EXPECT_EQ(read_file(posix_fs(), dir / "run/metrics.jsonl"), metrics);
  EXPECT_EQ(posix_fs().list(dir / "run"), files);
  run.train(6);
  EXPECT_EQ(list_checkpoints(dir / "run").back().step, 6);
}

TEST(RelativeDirectory, StaysWhereItWasAndKeepsItsNameInMessages) {
  const testing::TempDir dir;
  const std::filesystem::path before = std::filesystem::current_path();
  std::filesystem::create_directories(dir / "elsewhere");
  std::filesystem::current_path(dir / "");
  {
    FakeRun run(posix_fs(), {.save_every = 1}, "runs/a");
    run.train(1);
    std::filesystem::current_path("elsewhere");
    run.train(3);
    run.engine.finish();
    EXPECT_EQ(run.engine.exit_code(), kExitDone) << run.log.warnings();
    for (const Event& event : run.log.events) {
      EXPECT_EQ(event.message.find(dir / ""), std::string::npos) << event.message;
      if (event.kind == Event::Kind::saved) {
        EXPECT_NE(event.message.find("saved runs/a/step-"), std::string::npos) << event.message;
        EXPECT_TRUE(std::filesystem::path(event.path).is_absolute()) << event.path;
      }
    }
  }
  std::filesystem::current_path(before);
  EXPECT_EQ(list_checkpoints(dir / "runs/a").back().step, 3);
  EXPECT_TRUE(std::filesystem::is_empty(dir / "elsewhere"));
}

}  // namespace
}  // namespace torchkeep
