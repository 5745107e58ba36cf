// SPDX-License-Identifier: BSD-3-Clause
// Curves laid out for drawing: panels, ranges, ticks, and one stretch of values per column of the picture.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include <torchkeep/base/scale.h>
#include <torchkeep/run/curves.h>

namespace torchkeep::cli {

/// Two finite numbers, low < high.
struct Range {
  double low = 0;
  double high = 1;
  /// Where a number lies in it, from 0 to 1.
  double share(double value) const noexcept { return Scale(low, high).share(value); }
};

/// Curves over one scale.
struct Panel {
  std::string title;
  std::vector<const Curve*> curves;
  Range range;  ///< of the finite values, never empty
};

struct Chart {
  std::string title;
  Range steps;
  std::vector<Panel> panels;
  std::vector<std::int64_t> resumed_at;
};

/// The range of the finite numbers among the values of some curves; one number gets some room, none is 0 to 1.
Range range_of(const std::vector<const Curve*>& curves);

/// Chooses what is drawn: the metrics with these names, one panel each; or, with none given, all whose name speaks of
/// loss, and of learning rate (from the checkpoints where no metric does). `curves` must outlive the result.
/// Throws Error (not_found) when a metric or everything is missing.
Chart make_chart(const RunCurves& curves, const std::vector<std::string>& metrics, std::string title);

/// Round numbers in a range, about `count` of them, rising; at most 2 * count + 3.
std::vector<double> ticks(const Range& range, int count);
/// A tick's number without noise: "0.25", "1e-04", "20000".
std::string tick_text(double value);

/// The column of a picture, `width` columns wide, that a step falls into.
std::size_t column_of(const Range& steps, double step, std::size_t width);

/// The values of a curve that fall into one column of a picture; a NaN or an infinity ends a stretch.
struct Column {
  std::size_t column = 0;
  double first = 0, low = 0, high = 0, last = 0;
  bool joined = true;  ///< follows the column before it without a gap
};
/// The columns that have values, from left to right, each once, however many values there are and in whatever order.
std::vector<Column> columns_of(const Curve& curve, const Range& steps, std::size_t width);

/// The chart as SVG.
std::string draw_svg(const Chart& chart);

}  // namespace torchkeep::cli
