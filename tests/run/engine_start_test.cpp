// SPDX-License-Identifier: BSD-3-Clause
// How a run starts: where it continues, and what it refuses to continue from.
#include <gtest/gtest.h>
#include <string>
#include <vector>

#include <torchkeep/checkpoint/checkpoint.h>

#include "fake_training.h"
#include "support/expect_error.h"
#include "support/memory_fs.h"
#include "support/whole_file.h"

namespace torchkeep {
namespace {

using torchkeep::testing::create_file;
using torchkeep::testing::EventLog;
using torchkeep::testing::FakeRun;
using torchkeep::testing::FakeTraining;
using torchkeep::testing::MemoryFs;
using torchkeep::testing::read_file;

Tracked number(int& target) {
  return {.capture = [&target] { return Value(target); },
          .prepare = [&target](const Value& state) -> std::function<void()> {
            const int loaded = state.to<int>();
            return [&target, loaded] { target = loaded; };
          }};
}

// ---- continuing

TEST(Run, ContinuesWhereItWasWithTheSameState) {
  MemoryFs fs;
  for (int last = 3; last <= 30; last += 3) {
    FakeRun run(fs, {.save_every = 2});
    EXPECT_EQ(run.training.state(), FakeTraining::after(run.engine.step()));
    run.train(last);
    run.engine.save_now();
  }
  FakeRun run(fs, {});
  EXPECT_EQ(run.engine.step(), 30);
  EXPECT_EQ(run.training.state(), FakeTraining::after(30));
}

TEST(Run, ACheckpointIsADictOfTheseEntries) {
  MemoryFs fs;
  {
    FakeRun run(fs, {.save_every = 2, .best_metric = "loss"});
    run.engine.add_provenance(Value{{"pytorch", "2.13.0"}});
    run.train(4);
  }
  const Value checkpoint = load("/run/step-00000004.pt", {.fs = &fs});
  std::string names;
  for (const Entry& entry : checkpoint.items()) names += entry.key.as_string() + " ";
  EXPECT_EQ(names, "step layout_version model optimizer rng metrics provenance ");
  EXPECT_EQ(checkpoint["step"].to<int>(), 4);
  EXPECT_EQ(checkpoint["metrics"], (Value{{"loss", 0.25}}));
  const Value provenance = checkpoint["provenance"];
  EXPECT_EQ(provenance["parent_step"].to<int>(), 2);
  EXPECT_EQ(provenance["pytorch"].to<std::string>(), "2.13.0");
  EXPECT_EQ(provenance["best_by"], (Value{{"metric", "loss"}, {"best", "min"}}));
  EXPECT_EQ(provenance["time"].as_string().size(), std::string("2026-11-23T12:00:00Z").size());
  for (const char* key : {"torchkeep", "host", "pid"}) EXPECT_TRUE(provenance.contains(key)) << key;
  EXPECT_TRUE(load("/run/step-00000002.pt", {.fs = &fs})["provenance"]["parent_step"].is_none());
}

TEST(Run, NothingButTheDocumentedFilesIsInItsDirectory) {
  MemoryFs fs;
  {
    FakeRun run(fs, {.save_every = 2, .keep_last = 2});
    run.train(5);
    run.engine.finish();
  }
  EXPECT_EQ(fs.list("/run"), (std::vector<std::string>{".lock", "finished-00000005", "metrics.jsonl", "saves.jsonl",
                                                       "step-00000004.pt", "step-00000005.pt"}));
}

TEST(Run, CreatesItsDirectoryAndThoseAbove) {
  MemoryFs fs;
  FakeRun run(fs, {}, "/a/b/c");
  EXPECT_TRUE(fs.status("/a/b/c/.lock"));
}

TEST(Run, SaysWhereItContinues) {
  MemoryFs fs;
  {
    FakeRun run(fs, {});
    EXPECT_EQ(run.log.text(Event::Kind::started), "starting at step 0 in /run\n");
    run.train(3);
    run.engine.save_now();
  }
  FakeRun run(fs, {});
  EXPECT_EQ(run.log.text(Event::Kind::resumed), "continuing at step 3 of /run\n");
  EXPECT_EQ(run.log.count(Event::Kind::started), 0U);
}

TEST(Run, TheMetricsLogIsCutBackToTheResumedStep) {
  MemoryFs fs;
  FakeRun(fs, {.save_every = 3}).train(5);
  FakeRun(fs, {.save_every = 3}).train(7);
  MemoryFs undisturbed;
  FakeRun(undisturbed, {.save_every = 3}).train(7);
  EXPECT_EQ(read_file(fs, "/run/metrics.jsonl"), read_file(undisturbed, "/run/metrics.jsonl"));
}

TEST(Run, ResumeRequiredWantsACheckpoint) {
  MemoryFs fs;
  EXPECT_ERROR(FakeRun(fs, {.resume = Resume::required}), Code::not_found, "Resume::required");
  FakeRun(fs, {.save_every = 1}).train(1);
  EXPECT_EQ(FakeRun(fs, {.resume = Resume::required}).engine.step(), 1);
}

TEST(Run, ResumeNeverRefusesADirectoryWithCheckpoints) {
  MemoryFs fs;
  FakeRun(fs, {.save_every = 1, .resume = Resume::never}).train(1);
  EXPECT_ERROR(FakeRun(fs, {.resume = Resume::never}), Code::invalid_argument, "holds checkpoints up to step 1");
}

TEST(Run, AllDamagedIsAnErrorAndNoFreshStart) {
  MemoryFs fs;
  fs.make_directory("/run");
  create_file(fs, "/run/step-00000003.pt", "nonsense");
  EXPECT_ERROR(FakeRun(fs, {}), Code::corrupt, "step-00000003.pt");
}

TEST(Run, ADamagedCheckpointIsSetAsideReportedAndTheOlderContinued) {
  MemoryFs fs;
  FakeRun(fs, {.save_every = 1}).train(3);
  fs.remove("/run/step-00000003.pt");
  create_file(fs, "/run/step-00000003.pt", "nonsense");
  FakeRun run(fs, {.save_every = 1});
  EXPECT_EQ(run.engine.step(), 2);
  EXPECT_EQ(run.training.state(), FakeTraining::after(2));
  EXPECT_NE(run.log.text(Event::Kind::set_aside).find("kept as /run/step-00000003.pt.broken"), std::string::npos);
  run.train(3);
  EXPECT_EQ(load("/run/step-00000003.pt", {.fs = &fs})["model"], FakeTraining::after(3)["model"]);
}

// ---- what does not fit

TEST(Run, EverythingThatDoesNotFitIsInOneErrorAndNothingIsChanged) {
  MemoryFs fs;
  {
    int a = 1;
    Engine engine("/run", {.fs = &fs});
    engine.track("a", number(a));
    engine.track("b", {.capture = [] { return Value("text"); }, .prepare = {}});
    engine.track("c", {.capture = [] { return Value("text"); }, .prepare = {}});
    engine.resume();
    engine.save_now();
  }
  int a = 7, b = 8, c = 9, d = 10;
  Engine engine("/run", {.fs = &fs});
  engine.track("a", number(a));
  engine.track("b", number(b));
  engine.track("c", number(c));
  engine.track("d", number(d));
  try {
    engine.resume();
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), Code::mismatch);
    const std::string what = error.what();
    for (const char* part :
         {"step-00000000.pt", "lacks 'd'", "b: expected int", "c: expected int", "nothing was changed"}) {
      EXPECT_NE(what.find(part), std::string::npos) << part << " in " << what;
    }
  }
  EXPECT_EQ(a, 7);
}

TEST(Run, WhatMayBeMissingStartsFreshWithAWarning) {
  MemoryFs fs;
  FakeRun(fs, {.save_every = 1}).train(1);
  EventLog log;
  FakeTraining training;
  int ema = 5;
  Engine engine("/run", {.may_be_missing = {"ema"}, .on_event = log.listener(), .fs = &fs});
  training.track(engine);
  engine.track("ema", number(ema));
  EXPECT_EQ(engine.resume(), 1);
  EXPECT_EQ(ema, 5);
  EXPECT_NE(log.warnings().find("has no state of 'ema', which starts fresh"), std::string::npos) << log.warnings();
}

TEST(Run, AnEntryNobodyTracksIsAWarning) {
  MemoryFs fs;
  FakeRun(fs, {.save_every = 1}).train(1);
  EventLog log;
  Engine engine("/run", {.on_event = log.listener(), .fs = &fs});
  int model = 0;
  engine.track("model", {.capture = [&] { return Value(model); }, .prepare = [](const Value&) { return [] {}; }});
  engine.resume();
  EXPECT_NE(log.warnings().find("'optimizer', 'rng', which this program does not track"), std::string::npos);
}

TEST(Run, AFailureHalfwayThroughTheChangesSaysSo) {
  MemoryFs fs;
  const auto fails = [](const Value& state) -> std::function<void()> {
    return [state] { state.fail(Code::mismatch, "changed its mind"); };
  };
  int a = 1;
  const auto run = [&](bool resume) {
    Engine engine("/run", {.fs = &fs});
    engine.track("a", number(a));
    engine.track("b", {.capture = [] { return Value(1); }, .prepare = fails});
    engine.resume();
    if (!resume) engine.save_now();
  };
  run(false);
  EXPECT_ERROR(run(true), Code::mismatch, "changed its mind; what was tracked before it is restored already");
}

TEST(Run, WhatOnlyTheChangeItselfCanCheckIsChangedFirst) {
  MemoryFs fs;
  int a = 1;
  const auto run = [&](bool resume) {
    Engine engine("/run", {.fs = &fs});
    engine.track("a", number(a));
    engine.track("b", {.capture = [] { return Value(1); },
                       .prepare = [](const Value& state) -> std::function<void()> {
                         return [state] { state.fail(Code::mismatch, "does not fit"); };
                       },
                       .checks = false});
    engine.resume();
    if (!resume) engine.save_now();
  };
  run(false);
  a = 7;
  EXPECT_ERROR(run(true), Code::mismatch, "does not fit");
  EXPECT_EQ(a, 7);
}

TEST(Run, NamesAreUniqueAndNotTheEnginesOwn) {
  MemoryFs fs;
  int a = 1;
  Engine engine("/run", {.fs = &fs});
  engine.track("a", number(a));
  EXPECT_ERROR(engine.track("a", number(a)), Code::invalid_argument, "two objects are tracked as 'a'");
  EXPECT_ERROR(engine.track("", number(a)), Code::invalid_argument, "empty");
  for (const char* name : {"step", "metrics", "provenance"}) {
    EXPECT_ERROR(engine.track(name, number(a)), Code::invalid_argument, "is an entry of every checkpoint");
  }
  engine.resume();
  EXPECT_ERROR(engine.track("b", number(a)), Code::invalid_argument, "before resume()");
  EXPECT_ERROR(engine.resume(), Code::invalid_argument, "resumed already");
}

TEST(Run, NothingTrackedIsAnError) {
  MemoryFs fs;
  Engine engine("/run", {.fs = &fs});
  EXPECT_ERROR(engine.resume(), Code::invalid_argument, "nothing is tracked");
}

TEST(Run, WhatCannotBeSavedIsFoundBeforeTheFirstStep) {
  MemoryFs fs;
  Engine engine("/run", {.fs = &fs});
  engine.track("a",
               {.capture = []() -> Value { throw Error(Code::unsupported, "no state_dict for this"); }, .prepare = {}});
  EXPECT_ERROR(engine.resume(), Code::unsupported, "no state_dict for this");
}

TEST(Run, SenselessOptionsAreRefused) {
  MemoryFs fs;
  EXPECT_ERROR(FakeRun(fs, {.save_every = -1}), Code::invalid_argument, "save_every");
  EXPECT_ERROR(FakeRun(fs, {.keep_last = -1}), Code::invalid_argument, "keep_last");
  EXPECT_ERROR(FakeRun(fs, {.keep_best = 1}), Code::invalid_argument, "best_metric");
  EXPECT_ERROR(FakeRun(fs, {.stop_after_failures = -1}), Code::invalid_argument, "stop_after_failures");
}

TEST(Run, StepsMustGrowAndComeAfterResume) {
  MemoryFs fs;
  FakeTraining training;
  Engine engine("/run", {.fs = &fs});
  training.track(engine);
  EXPECT_ERROR(engine.finish_step(1), Code::invalid_argument, "call resume() first");
  EXPECT_ERROR(engine.save_now(), Code::invalid_argument, "call resume() first");
  EXPECT_ERROR(engine.finish(), Code::invalid_argument, "call resume() first");
  engine.resume();
  engine.finish_step(3);
  EXPECT_ERROR(engine.finish_step(3), Code::invalid_argument, "expected a step after 3, found 3");
}

}  // namespace
}  // namespace torchkeep
