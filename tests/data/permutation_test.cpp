// SPDX-License-Identifier: BSD-3-Clause
// The order of samples: frozen, a permutation, and as even as a shuffled deck.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <fstream>
#include <gtest/gtest.h>
#include <map>
#include <numeric>
#include <sstream>
#include <string>
#include <vector>

#include <torchkeep/data/permutation.h>

#include "support/expect_error.h"

namespace torchkeep {
namespace {

std::vector<std::uint64_t> order(std::uint64_t size, std::uint64_t seed, std::uint64_t epoch) {
  const Permutation permutation(size, seed, epoch);
  std::vector<std::uint64_t> samples(size);
  for (std::uint64_t i = 0; i < size; ++i) samples[i] = permutation(i);
  return samples;
}

/// How far chi-square lies from what chance gives, in standard deviations.
double deviation(const std::vector<std::uint32_t>& counts, double expected) {
  double chi_square = 0;
  for (const std::uint32_t count : counts) chi_square += (count - expected) * (count - expected) / expected;
  const auto freedom = static_cast<double>(counts.size() - 1);
  return (chi_square - freedom) / std::sqrt(2 * freedom);
}

TEST(Permutation, IsFrozenByTheVectorsInTheDocs) {
  std::ifstream page(TORCHKEEP_SOURCE_DIR "/docs/sample-order.md");
  std::size_t checked = 0;
  for (std::string line; std::getline(page, line);) {
    std::replace(line.begin(), line.end(), '|', ' ');
    std::istringstream row(line);
    std::uint64_t size = 0, seed = 0, epoch = 0, position = 0, sample = 0;
    if (!(row >> size >> seed >> epoch >> position)) continue;
    const Permutation permutation(size, seed, epoch);
    for (; row >> sample; ++position, ++checked) {
      EXPECT_EQ(permutation(position), sample) << line << " at " << position;
    }
  }
  EXPECT_GT(checked, 90U);
}

TEST(Permutation, GivesEverySampleOnceAtEverySize) {
  for (std::uint64_t size = 1; size <= 1100; ++size) {
    std::vector<std::uint64_t> samples = order(size, 7, size);
    std::sort(samples.begin(), samples.end());
    for (std::uint64_t i = 0; i < size; ++i) ASSERT_EQ(samples[i], i) << "of " << size;
  }
}

TEST(Permutation, DiffersBySeedAndByEpoch) {
  const auto reference = order(1000, 1, 1);
  EXPECT_NE(reference, order(1000, 2, 1));
  EXPECT_NE(reference, order(1000, 1, 2));
  EXPECT_EQ(reference, order(1000, 1, 1));
}

TEST(Permutation, GivesEveryOrderOfAFewSamplesEquallyOften) {
  constexpr std::uint32_t kEach = 200;
  for (const std::uint64_t size : {2U, 3U, 4U, 5U, 6U}) {
    std::vector<std::uint64_t> sorted(size);
    std::iota(sorted.begin(), sorted.end(), 0);
    std::map<std::vector<std::uint64_t>, std::uint32_t> seen;
    do seen[sorted] = 0;
    while (std::next_permutation(sorted.begin(), sorted.end()));
    for (std::uint64_t epoch = 0; epoch < kEach * seen.size(); ++epoch) ++seen.at(order(size, 0, epoch));
    std::vector<std::uint32_t> counts;
    for (const auto& [samples, count] : seen) counts.push_back(count);
    EXPECT_LT(std::abs(deviation(counts, kEach)), 4) << size << " samples";
  }
}

TEST(Permutation, PutsEverySampleEverywhereEquallyOften) {
  for (const std::uint64_t size : {10U, 100U, 257U}) {
    const std::uint64_t epochs = 40 * size;
    std::vector<std::uint32_t> counts(size * size);
    for (std::uint64_t epoch = 0; epoch < epochs; ++epoch) {
      const auto samples = order(size, 5, epoch);
      for (std::uint64_t i = 0; i < size; ++i) ++counts[i * size + samples[i]];
    }
    // Rows and columns add up to `epochs`, so there are fewer free cells than counted; the bound is generous.
    EXPECT_LT(deviation(counts, 40), 4) << size << " samples";
  }
}

TEST(Permutation, SaysNothingAboutTheNextSample) {
  constexpr std::uint64_t kSize = 100;
  std::vector<std::uint32_t> distances(kSize - 1);
  for (std::uint64_t epoch = 0; epoch < 2000; ++epoch) {
    const auto samples = order(kSize, 9, epoch);
    for (std::size_t i = 0; i + 1 < kSize; ++i) ++distances[(samples[i + 1] + kSize - samples[i]) % kSize - 1];
  }
  EXPECT_LT(std::abs(deviation(distances, 2000)), 4);
}

TEST(Permutation, SeeksIntoAHugeDataSet) {
  constexpr std::uint64_t kSize = std::uint64_t{1} << 60;
  const Permutation permutation(kSize, 1, 0);
  EXPECT_LT(permutation(kSize - 1), kSize);
  EXPECT_NE(permutation(kSize - 1), permutation(kSize - 2));
}

TEST(Permutation, RefusesAPositionPastTheEnd) {
  EXPECT_ERROR(Permutation(10, 0, 0)(10), Code::invalid_argument, "below 10, found 10");
  EXPECT_ERROR(Permutation(0, 0, 0)(0), Code::invalid_argument, "below 0");
}

}  // namespace
}  // namespace torchkeep
