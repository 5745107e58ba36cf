// SPDX-License-Identifier: BSD-3-Clause
// metrics.jsonl: every line once, cut back at a resume, and no trouble of the disk reaches the training.
#include "metrics_log.h"

#include <gtest/gtest.h>
#include <limits>
#include <string>

#include "support/expect_error.h"
#include "support/fault_fs.h"
#include "support/memory_fs.h"
#include "support/whole_file.h"

namespace torchkeep {
namespace {

using torchkeep::testing::create_file;
using torchkeep::testing::FaultFs;
using torchkeep::testing::MemoryFs;
using torchkeep::testing::read_file;

const std::string kLog = "/run/metrics.jsonl";

MemoryFs& with_directory(MemoryFs& fs) {
  fs.make_directory("/run");
  return fs;
}

TEST(MetricsLog, HasOneLineOfJsonPerStep) {
  MemoryFs fs;
  MetricsLog log(with_directory(fs), "/run");
  EXPECT_EQ(log.append(1, Value{{"loss", 0.1}, {"epoch", 3}}), "");
  EXPECT_EQ(log.append(2, Value{{"note", "caf\xc3\xa9 \"x\""}, {"ok", true}, {"none", none}}), "");
  EXPECT_EQ(read_file(fs, kLog),
            "{\"step\":1,\"loss\":0.1,\"epoch\":3}\n"
            "{\"step\":2,\"note\":\"caf\xc3\xa9 \\\"x\\\"\",\"ok\":true,\"none\":null}\n");
}

TEST(MetricsLog, KeepsTheNameOfWhatJsonHasNoNumberFor) {
  MemoryFs fs;
  MetricsLog log(with_directory(fs), "/run");
  const double infinity = std::numeric_limits<double>::infinity();
  log.append(1, Value{{"a", std::numeric_limits<double>::quiet_NaN()}, {"b", infinity}, {"c", -infinity}});
  EXPECT_EQ(read_file(fs, kLog), "{\"step\":1,\"a\":\"NaN\",\"b\":\"Infinity\",\"c\":\"-Infinity\"}\n");
}

TEST(MetricsLog, RewindDropsTheLinesAfterAStep) {
  MemoryFs fs;
  MetricsLog log(with_directory(fs), "/run");
  for (int step = 1; step <= 4; ++step) log.append(step, Value{{"loss", step}});
  log.rewind(2);
  EXPECT_EQ(read_file(fs, kLog), "{\"step\":1,\"loss\":1}\n{\"step\":2,\"loss\":2}\n");
  log.append(3, Value{{"loss", 30}});
  EXPECT_EQ(read_file(fs, kLog), "{\"step\":1,\"loss\":1}\n{\"step\":2,\"loss\":2}\n{\"step\":3,\"loss\":30}\n");
}

TEST(MetricsLog, RewindDropsWhatACrashCutOrZeroed) {
  for (const std::string& damage : {std::string("{\"step\":3,\"lo"), std::string("{\"step\":3}"), std::string(30, '\0'),
                                    std::string(8, '\0') + "\n", std::string("{\"stop\":1}\n"),
                                    std::string("[]\n{\"step\":\"1\"}\n"), std::string("\n")}) {
    MemoryFs fs;
    create_file(with_directory(fs), kLog, "{\"step\":1}\n" + damage);
    MetricsLog log(fs, "/run");
    log.rewind(5);
    EXPECT_EQ(read_file(fs, kLog), "{\"step\":1}\n") << damage;
  }
}

TEST(MetricsLog, RewindLeavesAGoodFileAlone) {
  MemoryFs fs;
  create_file(with_directory(fs), kLog, "{\"step\":1}\n");
  bool changed = false;
  fs.observe([&](const testing::DiskEvent&) { changed = true; });
  MetricsLog(fs, "/run").rewind(1);
  EXPECT_FALSE(changed);
}

TEST(MetricsLog, AnOutageIsToldOnceAndEndsWithEveryLineWritten) {
  MemoryFs disk;
  with_directory(disk);
  std::string expected;
  bool failed = true;
  for (std::size_t call = 1; failed; ++call) {
    MemoryFs fresh(disk.disk());
    FaultFs fs(fresh, {.call = call, .error = ENOSPC, .and_ever_after = false, .when = testing::Fault::When::halfway});
    MetricsLog log(fs, "/run");
    std::string told;
    for (int step = 1; step <= 3; ++step) {
      told += log.append(step, Value{{"loss", step}});
      told += log.sync();
    }
    failed = fs.happened();
    if (failed) {
      EXPECT_NE(told.find("metrics are kept in memory"), std::string::npos) << fs.calls().at(call - 1);
      EXPECT_NE(told.find("No space left"), std::string::npos);
    }
    log.append(4, Value{{"loss", 4}});
    log.sync();
    EXPECT_EQ(read_file(fresh, kLog),
              "{\"step\":1,\"loss\":1}\n{\"step\":2,\"loss\":2}\n{\"step\":3,\"loss\":3}\n{\"step\":4,\"loss\":4}\n")
        << "after call " << call << " failed";
  }
}

/// A disk that is full while `full` is set.
class Switch final : public FaultFs {
 public:
  explicit Switch(Fs& inner) : FaultFs(inner, {}) {}
  std::unique_ptr<File> open_write(const std::string& path) override {
    if (full) throw Error::from_errno(ENOSPC, "open the file for writing");
    return FaultFs::open_write(path);
  }
  bool full = true;
};

TEST(MetricsLog, ALongOutageLosesOnlyTheOldestLinesAndSaysSo) {
  MemoryFs disk;
  Switch fs(with_directory(disk));
  MetricsLog log(fs, "/run");
  const std::string text(1 << 16, 'x');
  std::string told;
  for (int step = 1; step <= 40; ++step) told += log.append(step, Value{{"text", Value::string(text)}});
  EXPECT_EQ(told.find("metrics are kept"), told.rfind("metrics are kept")) << "told more than once";
  fs.full = false;
  EXPECT_EQ(log.append(41, Value{{"loss", 1}}),
            "/run/metrics.jsonl: 25 lines of metrics were lost while it could not be written");
  const std::string written = read_file(disk, kLog);
  EXPECT_TRUE(written.starts_with("{\"step\":26,\"text\":")) << written.substr(0, 30);
  EXPECT_TRUE(written.ends_with("{\"step\":41,\"loss\":1}\n"));
}

TEST(PlainMetrics, AreNumbersAndTexts) {
  const Value given{{"a", 1}, {"b", 2.5}, {"c", "text"}, {"d", none}, {"e", false}};
  EXPECT_EQ(plain_metrics(given), given);
  EXPECT_EQ(plain_metrics({}), Value::mapping(Kind::dict));
}

TEST(PlainMetrics, ATensorOfOneElementIsItsNumber) {
  const Value plain =
      plain_metrics(Value{{"loss", Tensor::of<float>({}, {0.5F})}, {"n", Tensor::of<std::int64_t>({1}, {7})}});
  EXPECT_EQ(plain, (Value{{"loss", 0.5}, {"n", 7}}));
}

TEST(PlainMetrics, RefusesTheRestByName) {
  EXPECT_ERROR(plain_metrics(Value{{"x", List{1}}}), Code::invalid_argument, "found list");
  EXPECT_ERROR(plain_metrics(Value{{"x", Tensor::of<float>({2}, {1, 2})}}), Code::invalid_argument, ".item<double>()");
  EXPECT_ERROR(plain_metrics(Value{{"step", 3}}), Code::invalid_argument, "cannot be called 'step'");
  EXPECT_ERROR(plain_metrics(Dict{{1, 2}}), Code::invalid_argument, "named by texts");
  EXPECT_ERROR(plain_metrics(Value(3)), Code::mismatch, "a dict of metrics");
}

}  // namespace
}  // namespace torchkeep
