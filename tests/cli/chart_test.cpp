// SPDX-License-Identifier: BSD-3-Clause
// Ranges, ticks, columns and pictures of any numbers.
#include "chart.h"

#include <bit>
#include <cmath>
#include <cstdint>
#include <gtest/gtest.h>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include <torchkeep/base/scale.h>

#include "dots.h"

namespace torchkeep::cli {
namespace {

using Limits = std::numeric_limits<double>;

constexpr double kLargest = Limits::max(), kTiny = Limits::denorm_min(), kNan = Limits::quiet_NaN(),
                 kInfinity = Limits::infinity();

/// Numbers at every edge of double.
const std::vector<double> kEdges = {0.0,
                                    -0.0,
                                    1,
                                    -1,
                                    1.7e308,
                                    -1.7e308,
                                    kLargest,
                                    -kLargest,
                                    kTiny,
                                    -kTiny,
                                    3 * kTiny,
                                    Limits::min(),
                                    -Limits::min(),
                                    1e-300,
                                    1e300,
                                    1 + Limits::epsilon(),
                                    0.1,
                                    1e16,
                                    1e16 + 2,
                                    123456.789,
                                    std::nextafter(kLargest, 0),
                                    kNan,
                                    kInfinity,
                                    -kInfinity};

Curve curve_of(std::vector<double> values) {
  Curve curve{"loss", {}, std::move(values)};
  for (std::size_t i = 0; i < curve.values.size(); ++i) curve.steps.push_back(static_cast<std::int64_t>(i));
  return curve;
}

/// What every picture of a curve must be.
void check(const Curve& curve, const std::vector<std::int64_t>& resumed = {}) {
  RunCurves curves;
  curves.metrics.push_back(curve);
  curves.resumed_at = resumed;
  const Chart chart = make_chart(curves, {}, "title");
  const Panel& panel = chart.panels.front();
  ASSERT_TRUE(std::isfinite(panel.range.low) && std::isfinite(panel.range.high));
  ASSERT_LT(panel.range.low, panel.range.high);
  for (const Range& range : {panel.range, chart.steps}) {
    for (const int count : {1, 5, 8}) {
      const std::vector<double> found = ticks(range, count);
      ASSERT_LE(found.size(), static_cast<std::size_t>(2 * count + 3));
      for (std::size_t i = 0; i < found.size(); ++i) {
        ASSERT_TRUE(found[i] >= range.low && found[i] <= range.high) << range.low << " " << range.high;
        ASSERT_TRUE(i == 0 || found[i - 1] < found[i]);
      }
    }
  }
  for (const std::size_t width : {1U, 2U, 801U}) {
    const std::vector<Column> columns = columns_of(curve, chart.steps, width);
    ASSERT_LE(columns.size(), width);
    for (std::size_t i = 0; i < columns.size(); ++i) {
      ASSERT_LT(columns[i].column, width);
      ASSERT_TRUE(i == 0 || columns[i - 1].column < columns[i].column);
      ASSERT_LE(columns[i].low, columns[i].high);
    }
  }
  ASSERT_EQ(draw_dots(chart, panel, 40, 10).size(), 10U);
  const std::string svg = draw_svg(chart);
  ASSERT_EQ(svg.find("nan"), std::string::npos) << svg;
  ASSERT_EQ(svg.find("inf"), std::string::npos) << svg;
}

TEST(Chart, OfEveryPairAndTripleOfEdgesIsDrawn) {
  for (const double a : kEdges) {
    check(curve_of({a}));
    for (const double b : kEdges) {
      check(curve_of({a, b}));
      for (const double c : kEdges) check(curve_of({a, b, c, a}));
    }
  }
}

TEST(Chart, OfAnyBitsIsDrawn) {
  std::mt19937_64 random(7);
  for (int i = 0; i < 3000; ++i) {
    Curve curve{"loss", {}, {}};
    for (std::uint64_t n = random() % 20; n > 0; --n) {
      curve.values.push_back(std::bit_cast<double>(random()));
      curve.steps.push_back(static_cast<std::int64_t>(random() >> (random() % 64)));
    }
    check(curve, {static_cast<std::int64_t>(random()), 0});
  }
}

TEST(Chart, StepsInAnyOrderTakeNoMoreColumnsThanThePictureHas) {
  Curve curve{"loss", {}, {}};
  for (int i = 0; i < 200'000; ++i) {
    curve.steps.push_back(i % 2 == 0 ? 0 : 1'000'000);
    curve.values.push_back(i % 3 == 0 ? kNan : i);
  }
  check(curve);
}

TEST(Chart, AStraightLineFromTheLowestToTheHighestNumberIsStraight) {
  RunCurves curves;
  curves.metrics.push_back(curve_of({-kLargest, 0, kLargest}));
  const Chart chart = make_chart(curves, {}, "");
  EXPECT_EQ(chart.panels[0].range.share(0), 0.5);
  RunCurves plain;
  plain.metrics.push_back(curve_of({-1, 0, 1}));
  const Chart other = make_chart(plain, {}, "");
  EXPECT_EQ(draw_dots(chart, chart.panels[0], 40, 10), draw_dots(other, other.panels[0], 40, 10));
}

TEST(Ticks, AreRound) {
  EXPECT_EQ(ticks({0, 1}, 5), (std::vector<double>{0, 0.2, 0.4, 0.6000000000000001, 0.8, 1}));
  EXPECT_EQ(ticks({-kLargest, kLargest}, 4), (std::vector<double>{-1e308, 0, 1e308}));
  EXPECT_EQ(ticks({0, 20000}, 8).at(1), 5000);
}

TEST(Scale, FindsThePlaceOfEveryNumberAndBack) {
  for (const double low : kEdges) {
    for (const double high : kEdges) {
      if (!std::isfinite(low) || !std::isfinite(high) || low > high) continue;
      const Scale scale(low, high);
      for (const double value : kEdges) {
        const double share = scale.share(value);
        ASSERT_TRUE(share >= 0 && share <= 1) << low << " " << high << " " << value;
        ASSERT_TRUE(share == 1 || !(low < high && value >= high));
        ASSERT_LT(scale.part(value, 7), 7U);
      }
      ASSERT_EQ(scale.at(0), low);
      ASSERT_EQ(scale.at(1), high);
      ASSERT_TRUE(std::isfinite(scale.at(0.5)));
      ASSERT_TRUE(scale.at(0.5) >= low && scale.at(0.5) <= high);
    }
  }
  EXPECT_EQ(Scale(0, 3 * kTiny).share(kTiny), 1.0 / 3);
  EXPECT_EQ(Scale(2, 2).share(2), 0);
}

}  // namespace
}  // namespace torchkeep::cli
