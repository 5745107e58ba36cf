// SPDX-License-Identifier: BSD-3-Clause
// torchkeep plot: the curves of a run as SVG, or as dots of Braille in the terminal.
#include <algorithm>
#include <cmath>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <torchkeep/run/curves.h>

#include "chart.h"
#include "json.h"
#include "target.h"
#include "text.h"
#include "verbs.h"

namespace torchkeep::cli {
namespace {

// A picture of dots, 2 by 4 in each character.
class Dots {
 public:
  Dots(std::size_t columns, std::size_t rows) : columns_(columns), cells_(columns * rows, 0) {}

  void set(std::size_t x, std::size_t y) {
    constexpr std::uint8_t kBits[4][2] = {{0x01, 0x08}, {0x02, 0x10}, {0x04, 0x20}, {0x40, 0x80}};
    cells_[(y / 4) * columns_ + x / 2] |= kBits[y % 4][x % 2];
  }

  void line(std::size_t x, std::size_t from, std::size_t to) {
    for (std::size_t y = std::min(from, to); y <= std::max(from, to); ++y) set(x, y);
  }

  // Characters U+2800 to U+28FF in UTF-8.
  std::string row(std::size_t index) const {
    std::string text;
    for (std::size_t i = 0; i < columns_; ++i) {
      const std::uint8_t bits = cells_[index * columns_ + i];
      if (bits == 0) {
        text += ' ';
      } else {
        text += '\xe2';
        text += static_cast<char>(0xa0 | bits >> 6);
        text += static_cast<char>(0x80 | (bits & 0x3f));
      }
    }
    return text;
  }

 private:
  std::size_t columns_;
  std::vector<std::uint8_t> cells_;
};

constexpr std::size_t kRows = 10;   // of characters in a panel
constexpr std::size_t kLabel = 11;  // characters to the left of it

class Terminal {
 public:
  Terminal(Output& out, const Chart& chart)
      : out_(out), chart_(chart), columns_(static_cast<std::size_t>(std::clamp(out.width() - 14, 20, 160))) {}

  void draw() {
    out_.line(out_.styled(Style::heading, printable(chart_.title)));
    for (const Panel& panel : chart_.panels) draw_panel(panel);
    if (chart_.resumed_at.empty()) return;
    out_.line(fmt::format("{}^ resumed at step {}", std::string(kLabel + 2, ' '), fmt::join(chart_.resumed_at, ", ")));
  }

 private:
  void draw_panel(const Panel& panel) {
    Dots dots(columns_, kRows);
    std::string names;
    for (const Curve* curve : panel.curves) {
      draw_curve(dots, panel, *curve);
      names += (names.empty() ? "" : ", ") + printable(curve->name);
    }
    out_.line(
        out_.styled(Style::key, names == panel.title ? names : fmt::format("{}: {}", printable(panel.title), names)));
    for (std::size_t row = 0; row < kRows; ++row) {
      const bool is_edge = row == 0 || row + 1 == kRows;
      const std::string label = is_edge ? fmt::format("{:.5g}", row == 0 ? panel.range.high : panel.range.low) : "";
      out_.line(fmt::format("{:>{}} \u2502{}", label, kLabel, out_.styled(Style::number, dots.row(row))));
    }
    std::string axis(columns_, '-');
    for (const std::int64_t step : chart_.resumed_at) axis[column_of(static_cast<double>(step), columns_)] = '^';
    out_.line(fmt::format("{} +{}", std::string(kLabel, ' '), axis));
    const std::string end = tick_text(chart_.steps.high);
    out_.line(fmt::format("{}  {}{:>{}}", std::string(kLabel, ' '), tick_text(chart_.steps.low), end, columns_ - 1));
  }

  std::size_t column_of(double step, std::size_t width) const {
    return static_cast<std::size_t>(std::clamp(chart_.steps.share(step), 0.0, 1.0) * static_cast<double>(width - 1));
  }

  void draw_curve(Dots& dots, const Panel& panel, const Curve& curve) const {
    constexpr std::size_t kHeight = 4 * kRows;
    const auto y_of = [&](double value) {
      return static_cast<std::size_t>(std::lround((1 - panel.range.share(value)) * static_cast<double>(kHeight - 1)));
    };
    const Column* before = nullptr;
    const std::vector<Column> found = columns_of(curve, chart_.steps, 2 * columns_);
    for (const Column& column : found) {
      dots.line(column.column, y_of(column.low), y_of(column.high));
      if (before != nullptr && column.joined) connect(dots, *before, column, y_of);
      before = &column;
    }
  }

  template <class Y>
  static void connect(Dots& dots, const Column& from, const Column& to, Y&& y_of) {
    std::size_t last = y_of(from.last);
    for (std::size_t x = from.column + 1; x <= to.column; ++x) {
      const double share = static_cast<double>(x - from.column) / static_cast<double>(to.column - from.column);
      const std::size_t y = y_of(from.last + (to.first - from.last) * share);
      dots.line(x, last, y);
      last = y;
    }
  }

  Output& out_;
  const Chart& chart_;
  std::size_t columns_;
};

void write_curves(JsonWriter& json, const char* name, const std::vector<Curve>& curves) {
  json.key(name), json.begin_array();
  for (const Curve& curve : curves) {
    json.begin_object();
    json.member("name", curve.name);
    json.member("steps", curve.steps);
    json.key("values"), json.begin_array();
    for (const double value : curve.values) json.number(value);
    json.end_array();
    json.end_object();
  }
  json.end_array();
}

void write_json(Output& out, const std::string& directory, const RunCurves& curves) {
  JsonWriter json(out);
  json.begin_document("torchkeep.plot/1");
  json.member("directory", directory);
  write_curves(json, "metrics", curves.metrics);
  write_curves(json, "learning_rates", curves.learning_rates);
  json.member("resumed_at", curves.resumed_at);
  json.member("bad_lines", curves.bad_lines);
  json.end_document();
}

}  // namespace

int run_plot(Session& session, const PlotOptions& options) {
  const RunCurves curves = read_curves(options.directory);
  if (session.json && options.output == "-") {
    throw Error(Code::invalid_argument, "standard output is either the picture or JSON");
  }
  if (!session.json || !options.output.empty()) {
    const Chart chart = make_chart(curves, options.metrics, options.directory);
    if (options.output.empty())
      Terminal(session.out, chart).draw();
    else
      Target(options.output, options.force).write(draw_svg(chart));
  }
  if (session.json) write_json(session.out, options.directory, curves);
  if (curves.bad_lines > 0 && !session.quiet && !session.json && options.output != "-") {
    session.out.line(session.out.styled(
        Style::warning, fmt::format("{} of metrics.jsonl could not be read", counted(curves.bad_lines, "line"))));
  }
  return kGood;
}

}  // namespace torchkeep::cli
