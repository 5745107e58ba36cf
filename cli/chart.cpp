// SPDX-License-Identifier: BSD-3-Clause
// Choosing curves and scales.
#include "chart.h"

#include <algorithm>
#include <cmath>
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <limits>
#include <map>

#include <torchkeep/base/error.h>

namespace torchkeep::cli {
namespace {

std::string lower(std::string text) {
  std::transform(text.begin(), text.end(), text.begin(),
                 [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; });
  return text;
}

bool is_loss(const Curve& curve) {
  return lower(curve.name).find("loss") != std::string::npos;
}

bool is_rate(const Curve& curve) {
  const std::string name = lower(curve.name);
  return name == "lr" || name.starts_with("lr_") || name.ends_with("_lr") || name.starts_with("lr/") ||
         name.find("learning_rate") != std::string::npos || name.find("learning rate") != std::string::npos;
}

void add_panel(Chart& chart, std::string title, std::vector<const Curve*> curves) {
  if (curves.empty()) return;
  const Range range = range_of(curves);
  chart.panels.push_back({std::move(title), std::move(curves), range});
}

void choose(Chart& chart, const RunCurves& curves) {
  std::vector<const Curve*> losses, rates;
  for (const Curve& curve : curves.metrics) {
    if (is_loss(curve)) losses.push_back(&curve);
    if (is_rate(curve)) rates.push_back(&curve);
  }
  if (rates.empty()) {
    for (const Curve& curve : curves.learning_rates) rates.push_back(&curve);
  }
  if (losses.empty() && rates.empty()) {
    for (const Curve& curve : curves.metrics) add_panel(chart, curve.name, {&curve});
  }
  add_panel(chart, "loss", std::move(losses));
  add_panel(chart, "learning rate", std::move(rates));
}

void choose_named(Chart& chart, const RunCurves& curves, const std::vector<std::string>& names) {
  for (const std::string& name : names) {
    const auto has_name = [&](const Curve& curve) { return curve.name == name; };
    auto found = std::find_if(curves.metrics.begin(), curves.metrics.end(), has_name);
    if (found == curves.metrics.end()) {
      std::vector<std::string> known;
      for (const Curve& curve : curves.metrics) known.push_back(curve.name);
      throw Error(Code::not_found,
                  fmt::format("no metric is called '{}'; there are: {}", name, fmt::join(known, ", ")));
    }
    add_panel(chart, name, {&*found});
  }
}

}  // namespace

Range range_of(const std::vector<const Curve*>& curves) {
  constexpr double kLargest = std::numeric_limits<double>::max();
  double low = std::numeric_limits<double>::infinity(), high = -low;
  for (const Curve* curve : curves) {
    for (const double value : curve->values) {
      if (!std::isfinite(value)) continue;
      low = std::min(low, value), high = std::max(high, value);
    }
  }
  if (low > high) return {0, 1};
  if (low < high) return {low, high};
  const double half = std::max(std::abs(low) / 2, std::numeric_limits<double>::denorm_min());
  const double room = low == 0 ? 1 : half;
  return {std::max(low - room, -kLargest), std::min(high + room, kLargest)};
}

Chart make_chart(const RunCurves& curves, const std::vector<std::string>& metrics, std::string title) {
  Chart chart;
  chart.title = std::move(title);
  metrics.empty() ? choose(chart, curves) : choose_named(chart, curves, metrics);
  if (chart.panels.empty()) throw Error(Code::not_found, "this run has no metrics and no learning rates to draw");
  chart.steps = {0, 1};
  for (const Panel& panel : chart.panels) {
    for (const Curve* curve : panel.curves) {
      for (const std::int64_t step : curve->steps)
        chart.steps.high = std::max(chart.steps.high, static_cast<double>(step));
    }
  }
  chart.resumed_at = curves.resumed_at;
  return chart;
}

std::vector<double> ticks(const Range& range, int count) {
  // Of parts: the difference of large numbers overflows; and never 0, as a part of tiny ones is.
  const double rough = std::max(range.high / count - range.low / count, std::numeric_limits<double>::denorm_min());
  const double power =
      std::max(std::pow(10.0, std::floor(std::log10(rough))), std::numeric_limits<double>::denorm_min());
  const double share = rough / power;
  const double step = power * (share <= 1 ? 1 : share <= 2 ? 2 : share <= 5 ? 5 : 10);
  std::vector<double> numbers;
  // Counted, so that a step that is lost in a large number cannot loop for ever.
  const double first = std::ceil(range.low / step);
  for (int i = 0; i <= 2 * count + 2; ++i) {
    const double number = (first + i) * step;
    if (number > range.high) break;
    if (number >= range.low && (numbers.empty() || number > numbers.back())) numbers.push_back(number);
  }
  return numbers;
}

std::string tick_text(double value) {
  return fmt::format("{:.6g}", value == 0 ? 0.0 : value);  // no "-0"
}

std::size_t column_of(const Range& steps, double step, std::size_t width) {
  return static_cast<std::size_t>(steps.share(step) * static_cast<double>(width - 1));
}

std::vector<Column> columns_of(const Curve& curve, const Range& steps, std::size_t width) {
  std::map<std::size_t, Column> columns;
  auto last = columns.end();
  bool joined = false;
  for (std::size_t i = 0; i < curve.values.size(); ++i) {
    const double value = curve.values[i];
    if (!std::isfinite(value)) {
      joined = false;
      continue;
    }
    const std::size_t column = column_of(steps, static_cast<double>(curve.steps[i]), width);
    // Nearly always the column before, or a new one behind it.
    if (last == columns.end() || last->first != column)
      last = columns.try_emplace(columns.end(), column, Column{column, value, value, value, value, joined});
    Column& found = last->second;
    found.low = std::min(found.low, value), found.high = std::max(found.high, value), found.last = value;
    joined = true;
  }
  std::vector<Column> found;
  for (const auto& [number, column] : columns) found.push_back(column);
  return found;
}

}  // namespace torchkeep::cli
