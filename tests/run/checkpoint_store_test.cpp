// SPDX-License-Identifier: BSD-3-Clause
// A store of checkpoints lists, writes, removes and quarantines them, whatever kind they are of.
#include <gtest/gtest.h>
#include <string>
#include <vector>

#include <torchkeep/checkpoint/checkpoint.h>
#include <torchkeep/run/checkpoint_store.h>

#include "support/expect_error.h"
#include "support/memory_fs.h"
#include "support/whole_file.h"

namespace torchkeep {
namespace {

using torchkeep::testing::create_file;
using torchkeep::testing::MemoryFs;
using torchkeep::testing::read_file;

using Names = std::vector<std::string>;
using Steps = std::vector<std::int64_t>;

class Store : public ::testing::Test {
 protected:
  Store() { fs.make_directory("/run"); }

  void write(std::int64_t step) const { commit(*store.begin(step, Value{{"step", step}}, {}), {.read_back = true}); }
  Steps steps() const {
    Steps found;
    for (const CheckpointInfo& one : store.list()) found.push_back(one.step);
    return found;
  }

  mutable MemoryFs fs;
  CheckpointStore store{fs, "/run"};
};

TEST_F(Store, ListsWhatWasCommittedOldestFirst) {
  EXPECT_EQ(steps(), Steps{});
  for (const int step : {3, 1, 2}) write(step);
  EXPECT_EQ(steps(), (Steps{1, 2, 3}));
  EXPECT_EQ(store.list().back().path, store.path_of(3));
  EXPECT_EQ(store.open(store.path_of(3))["step"], Value(3));
  EXPECT_EQ(store.load(store.path_of(2))["step"], Value(2));
  EXPECT_EQ(store.structure(store.path_of(1))["step"], Value(1));
  store.verify(store.path_of(1));
}

TEST_F(Store, OfAMissingFolderIsEmpty) {
  const CheckpointStore missing(fs, "/nowhere");
  EXPECT_TRUE(missing.list().empty());
  EXPECT_TRUE(missing.quarantined().empty());
  EXPECT_TRUE(missing.leftovers().empty());
}

TEST_F(Store, WhatIsBegunIsNoCheckpointUntilItIsPublishedAndLeavesNothing) {
  write(1);
  {
    const auto pending = store.begin(2, Value{{"step", 2}}, {});
    EXPECT_EQ(steps(), Steps{1});
    pending->write({});
    pending->sync();
    EXPECT_EQ(steps(), Steps{1});
    EXPECT_EQ(store.leftovers().size(), 1U);
  }
  EXPECT_EQ(fs.list("/run"), Names{"step-00000001.pt"});
}

TEST_F(Store, ACommitSaysHowLargeTheCheckpointIs) {
  const auto pending = store.begin(7, Value{{"step", 7}}, {});
  commit(*pending, {});
  EXPECT_EQ(pending->size(), store.size(store.path_of(7)));
  EXPECT_EQ(pending->size(), read_file(fs, store.path_of(7)).size());
}

TEST_F(Store, BeforeCommitCallsACheckpointOff) {
  struct Off {};
  write(1);
  const auto pending = store.begin(1, Value{{"step", 1}, {"new", true}}, {});
  EXPECT_THROW(commit(*pending, {.before_commit = [] { throw Off(); }}), Off);
  EXPECT_FALSE(store.load(store.path_of(1)).contains("new"));
}

TEST_F(Store, RemovesAllButThePinned) {
  for (const int step : {1, 2}) write(step);
  store.pin(1);
  EXPECT_TRUE(store.is_pinned(1));
  EXPECT_TRUE(store.list().front().pinned);
  EXPECT_FALSE(store.remove(1));
  EXPECT_TRUE(store.remove(2));
  EXPECT_EQ(steps(), Steps{1});
  EXPECT_TRUE(store.unpin(1));
  EXPECT_FALSE(store.unpin(1));
  EXPECT_TRUE(store.remove(1));
  EXPECT_TRUE(fs.list("/run").empty());
}

TEST_F(Store, AMissingCheckpointIsNeitherPinnedNorRemoved) {
  EXPECT_ERROR(store.pin(4), Code::not_found, "step-00000004.pt");
  EXPECT_FALSE(store.is_pinned(4));
  EXPECT_ERROR(store.remove(4), Code::not_found, "step-00000004.pt");
}

TEST_F(Store, WhatIsInQuarantineIsNoCheckpointAndEachHasItsName) {
  for (int i = 0; i < 3; ++i) {
    write(5);
    store.quarantine(store.path_of(5));
  }
  EXPECT_EQ(steps(), Steps{});
  const auto quarantined = store.quarantined();
  ASSERT_EQ(quarantined.size(), 3U);
  EXPECT_EQ(fs.list("/run"),
            (Names{"step-00000005.pt.broken", "step-00000005.pt.broken-2", "step-00000005.pt.broken-3"}));
  EXPECT_EQ(quarantined[1].step, 5);
  EXPECT_EQ(quarantined[1].size, read_file(fs, quarantined[1].path).size());
  store.remove_quarantined(quarantined[1].path);
  EXPECT_EQ(store.quarantined().size(), 2U);
}

TEST_F(Store, CleaningUpRemovesWhatAKilledProcessLeftOfItsCheckpointsAndNothingElse) {
  create_file(fs, "/run/.step-00000003.pt.tmp-1-0", "half");
  create_file(fs, "/run/.best.pt.tmp-1-0", "another program is saving this just now");
  create_file(fs, "/run/.step-00000004.pt.doomed", "");
  EXPECT_EQ(store.leftovers().size(), 2U);
  EXPECT_EQ(store.clean_up(), 1U);
  EXPECT_EQ(fs.list("/run"), (Names{".best.pt.tmp-1-0", "step-00000004.pt"}));
}

TEST_F(Store, AFolderUnderTheNameOfACheckpointIsOdd) {
  fs.make_directory("/run/step-00000003.pt");
  create_file(fs, "/run/notes.txt", "");
  EXPECT_TRUE(store.is_odd("step-00000003.pt"));
  EXPECT_FALSE(store.is_odd("notes.txt"));
  EXPECT_EQ(steps(), Steps{});
}

}  // namespace
}  // namespace torchkeep
