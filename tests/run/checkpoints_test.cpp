// SPDX-License-Identifier: BSD-3-Clause
// "last", "best" and a step are found by looking at what is there.
#include <gtest/gtest.h>
#include <limits>

#include <torchkeep/checkpoint/checkpoint.h>
#include <torchkeep/run/checkpoints.h>

#include "support/expect_error.h"
#include "support/memory_fs.h"
#include "support/whole_file.h"

namespace torchkeep {
namespace {

using torchkeep::testing::create_file;
using torchkeep::testing::MemoryFs;

/// A directory with these checkpoints, each with a loss.
struct Directory {
  MemoryFs fs;

  explicit Directory(const std::vector<std::pair<std::int64_t, double>>& losses, Value provenance = {}) {
    fs.make_directory("/run");
    for (const auto& [step, loss] : losses) {
      save(Value{{"step", step}, {"metrics", Value{{"loss", loss}}}, {"provenance", provenance}}, path(step),
           {.fs = &fs});
    }
  }
  static std::string path(std::int64_t step) { return "/run/step-0000000" + std::to_string(step) + ".pt"; }
};

TEST(FindCheckpoint, LastIsTheNewest) {
  Directory directory({{3, 1}, {5, 1}, {4, 1}});
  EXPECT_EQ(find_checkpoint("/run", "last", {}, directory.fs), Directory::path(5));
}

TEST(FindCheckpoint, BestGoesByTheMetricGiven) {
  Directory directory({{1, 0.5}, {2, 0.1}, {3, 0.9}, {4, std::numeric_limits<double>::quiet_NaN()}});
  EXPECT_EQ(find_checkpoint("/run", "best", BestBy{"loss", Best::min}, directory.fs), Directory::path(2));
  EXPECT_EQ(find_checkpoint("/run", "best", BestBy{"loss", Best::max}, directory.fs), Directory::path(3));
}

TEST(FindCheckpoint, BestGoesByWhatTheNewestCheckpointSays) {
  Directory directory({{1, 0.5}, {2, 0.1}}, Value{{"best_by", Value{{"metric", "loss"}, {"best", "max"}}}});
  EXPECT_EQ(find_checkpoint("/run", "best", {}, directory.fs), Directory::path(1));
}

TEST(FindCheckpoint, WithoutAMetricThereIsNoBest) {
  Directory directory({{1, 0.5}});
  EXPECT_ERROR(find_checkpoint("/run", "best", {}, directory.fs), Code::invalid_argument, "names no metric");
  EXPECT_ERROR(find_checkpoint("/run", "best", BestBy{"accuracy", Best::max}, directory.fs), Code::not_found,
               "no checkpoint has a value of the metric 'accuracy'");
}

TEST(FindCheckpoint, AStepIsFoundByItsNumber) {
  Directory directory({{1, 0.5}, {7, 0.5}});
  EXPECT_EQ(find_checkpoint("/run", "7", {}, directory.fs), Directory::path(7));
  EXPECT_ERROR(find_checkpoint("/run", "3", {}, directory.fs), Code::not_found,
               "oldest is of step 1, the newest of step 7");
  EXPECT_ERROR(find_checkpoint("/run", "newest", {}, directory.fs), Code::invalid_argument, "'last', 'best' or a step");
  EXPECT_ERROR(find_checkpoint("/run", "-7", {}, directory.fs), Code::invalid_argument, "'last', 'best' or a step");
  EXPECT_ERROR(find_checkpoint("/run", "", {}, directory.fs), Code::invalid_argument, "'last', 'best' or a step");
}

TEST(FindCheckpoint, AnEmptyOrMissingFolderHasNone) {
  MemoryFs fs;
  EXPECT_ERROR(find_checkpoint("/run", "last", {}, fs), Code::not_found, "no checkpoint in this folder");
  EXPECT_TRUE(list_checkpoints("/run", fs).empty());
}

TEST(ListCheckpoints, IgnoresEverythingElseAndKnowsPins) {
  Directory directory({{2, 1}, {1, 1}});
  for (const char* name :
       {"step-00000003.pt.broken", ".step-00000004.pt.tmp-1-1", "notes.txt", "pin-00000002", "best.pt"}) {
    create_file(directory.fs, std::string("/run/") + name, "");
  }
  const auto all = list_checkpoints("/run", directory.fs);
  ASSERT_EQ(all.size(), 2U);
  EXPECT_TRUE(all[0].step == 1 && !all[0].pinned);
  EXPECT_TRUE(all[1].step == 2 && all[1].pinned);
}

TEST(CheckpointMetrics, AreReadWithoutTheTensors) {
  Directory directory({{2, 0.25}});
  EXPECT_EQ(checkpoint_metrics(Directory::path(2), directory.fs), (Value{{"loss", 0.25}}));
}

}  // namespace
}  // namespace torchkeep
