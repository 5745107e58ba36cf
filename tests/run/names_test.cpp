// SPDX-License-Identifier: BSD-3-Clause
// Every name in a run directory has one way to be written, and its parser takes no other.
#include <gtest/gtest.h>
#include <string>

#include <torchkeep/files/publish.h>
#include <torchkeep/run/names.h>

namespace torchkeep {
namespace {

using Write = std::string (*)(std::int64_t);
using Parse = std::optional<std::int64_t> (*)(std::string_view) noexcept;

void expect_round_trip(Write write, Parse parse) {
  for (const std::int64_t step : {std::int64_t{0}, std::int64_t{1}, std::int64_t{400}, std::int64_t{99'999'999},
                                  std::int64_t{100'000'000}, std::int64_t{9'223'372'036'854'775'807}}) {
    EXPECT_EQ(parse(write(step)), step) << write(step);
  }
}

TEST(Names, AreReadBackAsTheyAreWritten) {
  expect_round_trip(names::checkpoint, names::parse_checkpoint);
  expect_round_trip(names::pin, names::parse_pin);
  expect_round_trip(names::finished, names::parse_finished);
  expect_round_trip(names::doomed, names::parse_doomed);
  expect_round_trip([](std::int64_t step) { return names::broken(step, 1); }, names::parse_broken);
  expect_round_trip([](std::int64_t step) { return names::broken(step, 12); }, names::parse_broken);
}

TEST(Names, AreTheOnesOfTheDocs) {
  EXPECT_EQ(names::checkpoint(400), "step-00000400.pt");
  EXPECT_EQ(names::pin(400), "pin-00000400");
  EXPECT_EQ(names::finished(10'000), "finished-00010000");
  EXPECT_EQ(names::broken(400, 1), "step-00000400.pt.broken");
  EXPECT_EQ(names::broken(400, 2), "step-00000400.pt.broken-2");
  EXPECT_EQ(names::doomed(400), ".step-00000400.pt.doomed");
}

TEST(Names, OfCheckpointsSortLikeTheirSteps) {
  EXPECT_LT(names::checkpoint(999), names::checkpoint(1000));
  EXPECT_LT(names::checkpoint(9'999'999), names::checkpoint(10'000'000));
}

TEST(Names, ASecondSpellingOfAStepIsNoCheckpoint) {
  for (const char* name :
       {"step-400.pt", "step-000000400.pt", "step--0000400.pt", "step-+0000400.pt", "step-0000040x.pt", "step-00000400",
        "step-00000400.pt.broken", "step-00000400.pt.tmp", "xstep-00000400.pt", "step-.pt", "step-", "",
        "step-99999999999999999999.pt", "step- 0000400.pt", "Step-00000400.pt", "checkpoint-00000400.pt"}) {
    EXPECT_EQ(names::parse_checkpoint(name), std::nullopt) << name;
  }
}

TEST(Names, NoNameIsTwoThings) {
  const std::string all[] = {names::checkpoint(7),     names::pin(7),    names::finished(7),
                             names::broken(7, 1),      names::doomed(7), std::string(names::kMetrics),
                             std::string(names::kLock)};
  for (const std::string& name : all) {
    const int meanings = names::parse_checkpoint(name).has_value() + names::parse_pin(name).has_value() +
                         names::parse_finished(name).has_value() + names::parse_broken(name).has_value() +
                         names::parse_doomed(name).has_value() + is_temporary_name(name);
    EXPECT_EQ(meanings, name == names::kMetrics || name == names::kLock ? 0 : 1) << name;
  }
}

}  // namespace
}  // namespace torchkeep
