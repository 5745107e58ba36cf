// SPDX-License-Identifier: BSD-3-Clause
// What a run writes is read back, and a layout of a later version is named and never taken for damage.
#include <cmath>
#include <gtest/gtest.h>
#include <limits>
#include <string>

#include <torchkeep/run/schema.h>

#include "support/expect_error.h"

namespace torchkeep {
namespace {

Value checkpoint_of(const schema::Provenance& provenance) {
  return {{"step", 7}, {"layout_version", schema::kLayoutVersion}, {"provenance", schema::to_value(provenance)}};
}

TEST(Schema, ProvenanceIsReadBackAsItWasWritten) {
  const schema::Provenance written{
      .torchkeep = "1.2.3",
      .host = "n113",
      .pid = 4711,
      .time = "2026-11-23T22:39:01Z",
      .parent_step = 3,
      .resumed_at = {0, 3},
      .keep = KeepRules{.last = 2, .every = 100, .best = 1, .by = BestBy{"acc", Best::max}},
      .best_by = BestBy{"acc", Best::max}};
  const schema::Provenance read = schema::provenance_of(checkpoint_of(written));
  EXPECT_EQ(read.torchkeep, "1.2.3");
  EXPECT_EQ(read.host, "n113");
  EXPECT_EQ(read.pid, 4711);
  EXPECT_EQ(read.time, "2026-11-23T22:39:01Z");
  EXPECT_EQ(read.parent_step, 3);
  EXPECT_EQ(read.resumed_at, (std::vector<std::int64_t>{0, 3}));
  EXPECT_EQ(read.keep, written.keep);
  EXPECT_EQ(read.best_by, written.best_by);
}

TEST(Schema, ProvenanceOfTheFirstCheckpointHasNoParentAndNoMetric) {
  const schema::Provenance read = schema::provenance_of(checkpoint_of({.keep = KeepRules{.last = 3}}));
  EXPECT_FALSE(read.parent_step);
  ASSERT_TRUE(read.keep);
  EXPECT_FALSE(read.keep->by);
}

TEST(Schema, ProvenanceOfAnotherFileIsEmpty) {
  for (const Value& other : {Value(), Value(List{1, 2}), Value{{"provenance", 3}},
                             Value{{"provenance", Value{{"resumed_at", "never"}, {"keep", List{}}, {"host", 1}}}}}) {
    const schema::Provenance read = schema::provenance_of(other);
    EXPECT_TRUE(read.host.empty());
    EXPECT_TRUE(read.resumed_at.empty());
    EXPECT_FALSE(read.keep);
  }
}

TEST(Schema, EntriesOfTheFrontStandBehindThoseOfTheEngine) {
  const Value value = schema::to_value({.host = "a"}, Value{{"torch", "2.13.0"}});
  EXPECT_EQ(value.items().back().key, Value("torch"));
  EXPECT_EQ(schema::provenance_of(Value{{"provenance", value}}).host, "a");
}

TEST(Schema, ACheckpointWithoutALayoutIsOfTheFirst) {
  EXPECT_EQ(schema::layout_of(Value{{"step", 1}}), 1);
  EXPECT_EQ(schema::layout_of(Value{{"layout_version", 2}}), 2);
}

TEST(Schema, ALayoutOfALaterVersionNamesTheVersionThatIsNeeded) {
  const Value later{{"layout_version", schema::kLayoutVersion + 1}, {"provenance", Value{{"torchkeep", "9.9.1"}}}};
  EXPECT_ERROR(schema::layout_of(later), Code::unsupported, "resume with torchkeep 9.9.1 or later");
  EXPECT_ERROR(schema::step_of(later), Code::unsupported, "layout_version 3");
  const Value silent{{"layout_version", Value(std::numeric_limits<std::uint64_t>::max())}};
  EXPECT_ERROR(schema::layout_of(silent), Code::unsupported, "a later torchkeep");
}

TEST(Schema, ALayoutThatIsNoVersionIsDamage) {
  for (const Value& layout : {Value(0), Value(-3), Value("2"), Value(2.0), Value()}) {
    EXPECT_ERROR(schema::layout_of(Value{{"layout_version", layout}}), Code::corrupt, "layout_version");
  }
}

TEST(Schema, AStepIsAnInteger) {
  EXPECT_EQ(schema::step_of(Value{{"step", 7}}), 7);
  for (const Value& other : {Value{{"step", 7.0}}, Value{{"epoch", 7}}, Value(List{7}), Value(7)}) {
    EXPECT_ERROR(schema::step_of(other), Code::corrupt, "expected the checkpoint of a run");
  }
}

TEST(Schema, AMetricIsANumberOrNothing) {
  const Value metrics{{"loss", 0.5}, {"n", 3}, {"done", true}, {"note", "text"}};
  EXPECT_EQ(schema::metric_in(metrics, "loss"), 0.5);
  EXPECT_EQ(schema::metric_in(metrics, "n"), 3.0);
  EXPECT_EQ(schema::metric_in(metrics, "done"), 1.0);
  EXPECT_FALSE(schema::metric_in(metrics, "note"));
  EXPECT_FALSE(schema::metric_in(metrics, "missing"));
  EXPECT_FALSE(schema::metric_in(Value(), "loss"));
}

TEST(Schema, ALineOfMetricsKeepsEveryNumberToTheBit) {
  const double infinity = std::numeric_limits<double>::infinity();
  const Value metrics{{"a", 0.1}, {"b", infinity}, {"c", -infinity}, {"d", std::nan("")}, {"e", 5e-324}, {"note", "x"}};
  const std::string line = schema::metrics_line(12, metrics);
  EXPECT_TRUE(line.ends_with('\n'));
  const auto read = schema::parse_metrics_line(line);
  ASSERT_TRUE(read);
  EXPECT_EQ(read->step, 12);
  ASSERT_EQ(read->numbers.size(), 5U);
  EXPECT_EQ(read->numbers[0], (std::pair<std::string, double>("a", 0.1)));
  EXPECT_EQ(read->numbers[1].second, infinity);
  EXPECT_EQ(read->numbers[2].second, -infinity);
  EXPECT_TRUE(std::isnan(read->numbers[3].second));
  EXPECT_EQ(read->numbers[4].second, 5e-324);
}

TEST(Schema, WhatIsNoLineOfALogIsNone) {
  for (const char* const line : {"", "{", "[1]", R"({"step":"1"})", R"({"step":1.5})", R"({"loss":1})", "null"}) {
    EXPECT_FALSE(schema::parse_metrics_line(line)) << line;
    EXPECT_FALSE(schema::parse_save_line(line)) << line;
  }
  EXPECT_FALSE(schema::parse_save_line(R"({"step":1})"));
}

TEST(Schema, ALineOfASaveIsReadBackAsItWasWritten) {
  const auto read = schema::parse_save_line(schema::save_line(
      {.step = 4, .bytes = 1'000, .seconds = 0.25, .blocked_seconds = 0.125, .staged_bytes = 64, .background = true}));
  ASSERT_TRUE(read);
  EXPECT_EQ(read->step, 4);
  EXPECT_EQ(read->bytes, 1'000U);
  EXPECT_EQ(read->seconds, 0.25);
  EXPECT_EQ(read->blocked_seconds, 0.125);
  EXPECT_EQ(read->staged_bytes, 64U);
  EXPECT_TRUE(read->background);
}

}  // namespace
}  // namespace torchkeep
