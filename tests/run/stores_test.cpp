// SPDX-License-Identifier: BSD-3-Clause
// A store behind a URI is used by all that takes a path, and a run works in one that can neither append, rename nor
// lock.
#include <gtest/gtest.h>
#include <string>

#include <torchkeep/checkpoint/checkpoint.h>
#include <torchkeep/files/publish.h>
#include <torchkeep/files/stores.h>
#include <torchkeep/run/checkpoint_store.h>
#include <torchkeep/run/curves.h>
#include <torchkeep/run/tidy.h>

#include "fake_training.h"
#include "support/expect_error.h"
#include "support/temp_dir.h"
#include "support/toy_store.h"

namespace torchkeep {
namespace {

using torchkeep::testing::FakeRun;
using torchkeep::testing::FakeTraining;
using torchkeep::testing::TempDir;
using torchkeep::testing::ToyStore;

using Steps = std::vector<std::int64_t>;

/// The store behind "toy:", for the whole program.
void register_toy() {
  static const bool once = [] {
    register_store("toy", std::make_unique<ToyStore>());
    return true;
  }();
  static_cast<void>(once);
}

Steps steps_in(const std::string& directory) {
  Steps steps;
  for (const CheckpointInfo& one : list_checkpoints(directory)) steps.push_back(one.step);
  return steps;
}

RunOptions options() {
  return {.save_every = 1, .keep_last = 2, .lock = Locking::if_available};
}

/// What a run wrote, changed in one bit.
void damage(const std::string& path) {
  std::string bytes = read_whole(any_store(), path);
  char& in_the_pickle = bytes.at(bytes.find("\x80\x02") + 2);
  in_the_pickle = static_cast<char>(in_the_pickle ^ 1);
  publish(any_store(), path, as_bytes(bytes));
}

TEST(Stores, APathWithoutARegisteredSchemeIsOfTheMachine) {
  register_toy();
  for (const char* const path : {"/data/runs", "runs/a", "", "c:/x", "other:runs", "To:x", "a b:c", "./toy:x", ":x"}) {
    EXPECT_EQ(&store_of(path), &posix_fs()) << path;
  }
  EXPECT_NE(&store_of("toy:runs/a"), &posix_fs());
}

TEST(Stores, ASchemeIsRegisteredOnceAndIsOne) {
  register_toy();
  EXPECT_ERROR(register_store("toy", std::make_unique<ToyStore>()), Code::invalid_argument, "another store");
  for (const char* const scheme : {"", "c", "TOY", "a/b", "a:b"}) {
    EXPECT_ERROR(register_store(scheme, std::make_unique<ToyStore>()), Code::invalid_argument, "the scheme of a URI");
  }
}

TEST(Stores, ACheckpointIsSavedVerifiedAndLoadedByItsUri) {
  register_toy();
  const Value state{{"w", Tensor::of<float>({2}, {1, 2})}};
  save(state, "toy:single/a.pt", {.read_back = true});
  verify("toy:single/a.pt");
  EXPECT_TRUE(load("toy:single/a.pt") == state);
  EXPECT_ERROR(load("toy:single/b.pt"), Code::not_found, "toy:single/b.pt");
  EXPECT_FALSE(posix_fs().status("toy:single"));
}

TEST(Stores, WhatAStoreLacksIsSaidByName) {
  register_toy();
  EXPECT_ERROR(any_store().open_write("toy:x"), Code::unsupported, "written in place");
  EXPECT_ERROR(any_store().rename("toy:x", "toy:y"), Code::unsupported, "renaming");
  EXPECT_ERROR(any_store().try_lock("toy:x", ""), Code::unsupported, "locks");
  EXPECT_FALSE(any_store().can(Capability::rename, "toy:x"));
  EXPECT_TRUE(any_store().can(Capability::rename, "/x"));
}

TEST(Stores, AFileIsMovedWhereNothingCanBeRenamed) {
  register_toy();
  const std::string large(3'000'000, 'x');
  publish(any_store(), "toy:move/a", as_bytes(large));
  move_file(any_store(), "toy:move/a", "toy:move/b");
  EXPECT_EQ(read_whole(any_store(), "toy:move/b"), large);
  EXPECT_FALSE(any_store().status("toy:move/a"));
}

TEST(RunInAStore, NeedsToBeToldThatThereAreNoLocks) {
  register_toy();
  EXPECT_ERROR(Engine("toy:locked", {}), Code::unsupported, "Locking::if_available");
}

TEST(RunInAStore, SavesPrunesResumesAndEndsAsInAFolder) {
  register_toy();
  const std::string run = "toy:runs/a";
  {
    FakeRun first(any_store(), options(), run);
    first.train(3);
    first.engine.finish();
    EXPECT_TRUE(first.engine.saved());
  }
  EXPECT_EQ(steps_in(run), (Steps{2, 3}));
  FakeRun second(any_store(), options(), run);
  EXPECT_EQ(second.engine.step(), 3);
  EXPECT_TRUE(second.engine.finished());
  EXPECT_TRUE(second.training.state() == FakeTraining::after(3));
  second.train(5);
  EXPECT_EQ(steps_in(run), (Steps{4, 5}));
  const RunCurves curves = read_curves(run);
  ASSERT_EQ(curves.metrics.size(), 1U);
  EXPECT_EQ(curves.metrics[0].steps, (Steps{1, 2, 3, 4, 5}));
  EXPECT_EQ(curves.bad_lines, 0U);
  EXPECT_TRUE(any_store().status(run + "/saves.jsonl"));
}

TEST(RunInAStore, ADamagedCheckpointGoesIntoQuarantineAndTheOlderOneIsUsed) {
  register_toy();
  const std::string run = "toy:runs/damaged";
  { FakeRun(any_store(), options(), run).train(3); }
  damage(find_checkpoint(run, "last"));
  FakeRun again(any_store(), options(), run);
  EXPECT_EQ(again.engine.step(), 2);
  EXPECT_TRUE(again.training.state() == FakeTraining::after(2));
  EXPECT_EQ(look_at_run(run).broken.size(), 1U);
  EXPECT_EQ(steps_in(run), Steps{2});
}

TEST(RunInAStore, PinsKeepAndRemovalsRemove) {
  register_toy();
  const std::string run = "toy:runs/pinned";
  FakeRun training(any_store(), options(), run);
  training.train(2);
  pin_checkpoint(run, 1);
  training.train(6);
  EXPECT_EQ(steps_in(run), (Steps{1, 5, 6}));
  EXPECT_TRUE(unpin_checkpoint(run, 1));
  EXPECT_EQ(remove_checkpoints(run, {1}, {.locking = Locking::if_available}).removed.size(), 1U);
  EXPECT_EQ(steps_in(run), (Steps{5, 6}));
}

TEST(RunInAStore, AResumeCutsTheMetricsBack) {
  register_toy();
  const std::string run = "toy:runs/cut";
  { FakeRun(any_store(), options(), run).train(4); }
  any_store().remove(find_checkpoint(run, "last"));
  FakeRun again(any_store(), options(), run);
  EXPECT_EQ(again.engine.step(), 3);
  again.train(4);
  EXPECT_EQ(read_curves(run).metrics[0].steps, (Steps{1, 2, 3, 4}));
}

}  // namespace
}  // namespace torchkeep
