// SPDX-License-Identifier: BSD-3-Clause
// The fuzzers' targets without a fuzzer: their seeds, changed seeds, and every input that ever broke one.
#include <algorithm>
#include <filesystem>
#include <fstream>
#include <gtest/gtest.h>
#include <random>
#include <sstream>

#include "targets.h"

namespace torchkeep {
namespace {

using fuzz::Target;

// Each of these ends the program when it breaks a promise.
TEST(Fuzz, SeedsKeepEveryPromise) {
  for (const Target& target : fuzz::targets()) {
    const auto seeds = fuzz::seeds(target.name);
    EXPECT_GE(seeds.size(), 10u) << target.name;
    for (const std::string& seed : seeds) target.run(seed);
  }
}

std::string flip_one_bit(std::string bytes) {
  static std::minstd_rand random(1);
  if (!bytes.empty()) bytes[random() % bytes.size()] ^= static_cast<char>(1 << random() % 8);
  return bytes;
}

TEST(Fuzz, ChangedSeedsKeepEveryPromise) {
  constexpr unsigned kRounds = 20;
  for (const Target& target : fuzz::targets()) {
    unsigned number = 0;
    for (std::string bytes : fuzz::seeds(target.name)) {
      for (unsigned round = 0; round < kRounds; ++round) {
        bytes = fuzz::mutate(target.name, bytes, ++number, flip_one_bit);
        target.run(bytes);
      }
    }
    EXPECT_GT(number, 0u) << target.name;
  }
}

// fuzz/crashes/TARGET-what-was-wrong
TEST(Fuzz, InputsThatOnceBrokeAPromiseKeepIt) {
  std::size_t count = 0;
  for (const auto& file : std::filesystem::directory_iterator(TORCHKEEP_SOURCE_DIR "/fuzz/crashes")) {
    const std::string name = file.path().filename();
    std::ifstream stream(file.path(), std::ios::binary);
    std::stringstream bytes;
    bytes << stream.rdbuf();
    fuzz::find_target(name.substr(0, name.find('-'))).run(bytes.str());
    ++count;
  }
  EXPECT_GT(count, 0u);
}

}  // namespace
}  // namespace torchkeep
