// SPDX-License-Identifier: BSD-3-Clause
// A run that was cut anywhere and resumed ends bit for bit where the uninterrupted one ends.
#include <gtest/gtest.h>
#include <string>

#include <torchkeep/torch.h>

#include "full_training.h"
#include "support/memory_fs.h"
#include "support/whole_file.h"

namespace torchkeep {
namespace {

using testing::FullTraining;
using testing::FullTrainingOptions;
using testing::MemoryFs;
using testing::read_file;
using testing::without_provenance;

RunOptions quiet(Fs& fs) {
  return {.save_every = 1, .keep_last = 2, .signals = false, .on_event = [](const Event&) {}, .fs = &fs};
}

Value final_state(Fs& fs) {
  return without_provenance(load(find_checkpoint("/run", "last", {}, fs), {.fs = &fs}));
}

/// A process of its own: other numbers come from the generators before it resumes.
int process(Fs& fs, const FullTrainingOptions& options, std::int64_t last, std::uint64_t disturbance) {
  torch::manual_seed(disturbance == 0 ? 5 : 1000 + disturbance);
  torch::rand({static_cast<std::int64_t>(disturbance) + 1});
  if (disturbance == 0) torch::manual_seed(5);
  return FullTraining(options).run("/run", quiet(fs), last, false);
}

void expect_exact(const FullTrainingOptions& options, std::int64_t last, const std::vector<std::int64_t>& cuts) {
  MemoryFs undisturbed;
  process(undisturbed, options, last, 0);
  MemoryFs cut;
  std::uint64_t disturbance = 0;
  for (const std::int64_t at : cuts) process(cut, options, at, disturbance++);
  process(cut, options, last, disturbance);
  EXPECT_TRUE(final_state(cut) == final_state(undisturbed)) << "the states differ";
  EXPECT_EQ(read_file(cut, "/run/metrics.jsonl"), read_file(undisturbed, "/run/metrics.jsonl"));
}

// An epoch has 7 batches, the last one of 4 samples; an optimizer step has 2.
constexpr std::int64_t kLast = 40;

TEST(ExactResume, AtEveryBatch) {
  MemoryFs undisturbed;
  process(undisturbed, {}, kLast, 0);
  const Value expected = final_state(undisturbed);
  for (std::int64_t cut = 1; cut < 16; ++cut) {
    MemoryFs fs;
    process(fs, {}, cut, 0);
    process(fs, {}, kLast, 1);
    EXPECT_TRUE(final_state(fs) == expected) << "cut after batch " << cut;
  }
}

TEST(ExactResume, AgainAndAgain) {
  expect_exact({}, kLast, {1, 2, 3, 7, 8, 13, 14, 15, 28, 39});
}

TEST(ExactResume, WithAPlainLoaderAndWithManyWorkers) {
  expect_exact({.workers = 0}, kLast, {5, 19});
  expect_exact({.workers = 4}, kLast, {5, 19});
}

TEST(ExactResume, TheNumberOfWorkersMayChange) {
  MemoryFs undisturbed;
  process(undisturbed, {.workers = 0}, kLast, 0);
  MemoryFs fs;
  process(fs, {.workers = 3}, 11, 0);
  process(fs, {.workers = 1}, 24, 1);
  process(fs, {.workers = 0}, kLast, 2);
  EXPECT_TRUE(final_state(fs) == final_state(undisturbed));
}

TEST(ExactResume, WithoutAccumulationNoGradientsAreNeeded) {
  expect_exact({.accumulate = 1, .save_gradients = false}, kLast, {3, 9, 20});
}

// The proof can fail: each thing that is left out shows.
TEST(ExactResume, WithoutTheGradientsACutBetweenTwoOptimizerStepsShows) {
  MemoryFs undisturbed;
  process(undisturbed, {.save_gradients = false}, kLast, 0);
  MemoryFs fs;
  process(fs, {.save_gradients = false}, 9, 0);
  process(fs, {.save_gradients = false}, kLast, 1);
  EXPECT_FALSE(final_state(fs) == final_state(undisturbed));
}

TEST(ExactResume, WithoutTheGeneratorsDropoutShows) {
  const auto run = [](Fs& fs, std::int64_t last, std::uint64_t seed) {
    torch::manual_seed(seed);
    RunOptions options = quiet(fs);
    options.rng = false;
    FullTraining().run("/run", options, last, false);
  };
  MemoryFs undisturbed;
  run(undisturbed, kLast, 5);
  MemoryFs fs;
  run(fs, 10, 5);
  run(fs, kLast, 6);
  EXPECT_FALSE(final_state(fs) == final_state(undisturbed));
}

TEST(ExactResume, ABadlyDamagedNewestCheckpointCostsStepsAndNotExactness) {
  MemoryFs undisturbed;
  process(undisturbed, {}, kLast, 0);
  MemoryFs fs;
  process(fs, {}, 20, 0);
  const std::string newest = find_checkpoint("/run", "last", {}, fs);
  fs.open_write(newest)->write_at(500, as_bytes("damaged"));
  process(fs, {}, kLast, 1);
  EXPECT_TRUE(final_state(fs) == final_state(undisturbed));
  EXPECT_TRUE(fs.status(newest + ".broken"));
}

}  // namespace
}  // namespace torchkeep
