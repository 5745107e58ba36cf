// SPDX-License-Identifier: BSD-3-Clause
// torchkeep plot: the curves of a run as SVG, or as dots of Braille in the terminal.
#include <algorithm>
#include <cmath>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <torchkeep/run/curves.h>

#include "chart.h"
#include "dots.h"
#include "json.h"
#include "target.h"
#include "text.h"
#include "verbs.h"

namespace torchkeep::cli {
namespace {

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
    std::string names;
    for (const Curve* curve : panel.curves) names += (names.empty() ? "" : ", ") + printable(curve->name);
    out_.line(
        out_.styled(Style::key, names == panel.title ? names : fmt::format("{}: {}", printable(panel.title), names)));
    const std::vector<std::string> rows = draw_dots(chart_, panel, columns_, kRows);
    for (std::size_t row = 0; row < kRows; ++row) {
      const bool is_edge = row == 0 || row + 1 == kRows;
      const std::string label = is_edge ? fmt::format("{:.5g}", row == 0 ? panel.range.high : panel.range.low) : "";
      out_.line(fmt::format("{:>{}} \u2502{}", label, kLabel, out_.styled(Style::number, rows[row])));
    }
    std::string axis(columns_, '-');
    for (const std::int64_t step : chart_.resumed_at)
      axis[column_of(chart_.steps, static_cast<double>(step), columns_)] = '^';
    out_.line(fmt::format("{} +{}", std::string(kLabel, ' '), axis));
    const std::string end = tick_text(chart_.steps.high);
    out_.line(fmt::format("{}  {}{:>{}}", std::string(kLabel, ' '), tick_text(chart_.steps.low), end, columns_ - 1));
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
