// SPDX-License-Identifier: BSD-3-Clause
// A chart as an SVG that needs nothing else: no script, no font, no link.
#include <array>
#include <fmt/format.h>

#include <torchkeep/base/printable.h>

#include "chart.h"

namespace torchkeep::cli {
namespace {

constexpr double kWidth = 900, kPlotLeft = 80, kPlotRight = 880;
constexpr double kPanelHeight = 260, kPlotTop = 34, kPlotHeight = 190;
constexpr double kHeader = 40;
// Colours that people with any eyes can tell apart (Okabe and Ito).
constexpr std::array<const char*, 6> kColours = {"#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9"};

std::string escape(std::string_view text) {
  std::string out;
  for (const char c : printable(text)) {
    if (c == '<')
      out += "&lt;";
    else if (c == '>')
      out += "&gt;";
    else if (c == '&')
      out += "&amp;";
    else if (c == '"')
      out += "&quot;";
    else
      out += c;
  }
  return out;
}

class Svg {
 public:
  explicit Svg(const Chart& chart) : chart_(chart) {}

  std::string draw() && {
    const double height = kHeader + kPanelHeight * static_cast<double>(chart_.panels.size()) + 10;
    add(R"(<svg xmlns="http://www.w3.org/2000/svg" width="{0}" height="{1}" viewBox="0 0 {0} {1}" )"
        R"(font-family="sans-serif" font-size="12">)",
        kWidth, height);
    add(R"(<rect width="{}" height="{}" fill="white"/>)", kWidth, height);
    add(R"(<text x="{}" y="26" font-size="16">{}</text>)", kPlotLeft, escape(chart_.title));
    if (!chart_.resumed_at.empty()) {
      add(R"(<text x="{}" y="26" text-anchor="end" fill="#666">dashed: resumed</text>)", kPlotRight);
    }
    double top = kHeader;
    for (const Panel& panel : chart_.panels) {
      draw_panel(panel, top + kPlotTop);
      top += kPanelHeight;
    }
    out_ += "</svg>\n";
    return std::move(out_);
  }

 private:
  template <class... Args>
  void add(fmt::format_string<Args...> format, Args&&... args) {
    fmt::format_to(std::back_inserter(out_), format, std::forward<Args>(args)...);
    out_ += '\n';
  }

  double x_of(double step) const { return kPlotLeft + chart_.steps.share(step) * (kPlotRight - kPlotLeft); }
  static double y_of(const Panel& panel, double top, double value) {
    return top + (1 - panel.range.share(value)) * kPlotHeight;
  }

  void draw_panel(const Panel& panel, double top) {
    add(R"(<text x="{}" y="{}" font-weight="bold">{}</text>)", kPlotLeft, top - 10, escape(panel.title));
    draw_axes(panel, top);
    for (const std::int64_t step : chart_.resumed_at) {
      const double x = x_of(static_cast<double>(step));
      add(R"(<line class="resumed" x1="{0:.1f}" y1="{1}" x2="{0:.1f}" y2="{2}" stroke="#888" stroke-dasharray="4 3">)"
          R"(<title>resumed at step {3}</title></line>)",
          x, top, top + kPlotHeight, step);
    }
    double legend = kPlotLeft + 140;
    for (std::size_t i = 0; i < panel.curves.size(); ++i) {
      const char* const colour = kColours[i % kColours.size()];
      draw_curve(panel, *panel.curves[i], top, colour);
      const std::string name = escape(panel.curves[i]->name);
      add(R"(<text x="{}" y="{}" fill="{}">{}</text>)", legend, top - 10, colour, name);
      legend += 20 + 7.5 * static_cast<double>(columns(name));
    }
  }

  void draw_axes(const Panel& panel, double top) {
    add(R"(<rect x="{}" y="{}" width="{}" height="{}" fill="none" stroke="#444"/>)", kPlotLeft, top,
        kPlotRight - kPlotLeft, kPlotHeight);
    for (const double value : ticks(panel.range, 5)) {
      const double y = y_of(panel, top, value);
      add(R"(<line x1="{}" y1="{:.1f}" x2="{}" y2="{:.1f}" stroke="#ddd"/>)", kPlotLeft, y, kPlotRight, y);
      add(R"(<text x="{}" y="{:.1f}" text-anchor="end">{}</text>)", kPlotLeft - 6, y + 4, tick_text(value));
    }
    for (const double step : ticks(chart_.steps, 8)) {
      add(R"(<text x="{:.1f}" y="{}" text-anchor="middle">{}</text>)", x_of(step), top + kPlotHeight + 16,
          tick_text(step));
    }
    add(R"(<text x="{}" y="{}" text-anchor="end" fill="#666">step</text>)", kPlotRight, top + kPlotHeight + 30);
  }

  // One column of pixels at a time, however many points there are: its first, lowest, highest and last value.
  void draw_curve(const Panel& panel, const Curve& curve, double top, const char* colour) {
    constexpr auto kColumns = static_cast<std::size_t>(kPlotRight - kPlotLeft) + 1;
    const std::vector<Column> found = columns_of(curve, chart_.steps, kColumns);
    std::string path;
    for (std::size_t i = 0; i < found.size(); ++i) {
      const Column& column = found[i];
      const double x = kPlotLeft + static_cast<double>(column.column);
      const bool alone = !column.joined && (i + 1 == found.size() || !found[i + 1].joined);
      if (alone && column.low == column.high) {  // a line of no length would not be seen
        add(R"(<circle cx="{:.1f}" cy="{:.1f}" r="2.5" fill="{}"/>)", x, y_of(panel, top, column.last), colour);
      }
      fmt::format_to(std::back_inserter(path), "{}{:.1f} {:.2f}", column.joined ? "L" : "M", x,
                     y_of(panel, top, column.first));
      if (column.low != column.high) {
        for (const double value : {column.low, column.high, column.last}) {
          fmt::format_to(std::back_inserter(path), "L{:.1f} {:.2f}", x, y_of(panel, top, value));
        }
      }
    }
    if (!path.empty()) add(R"(<path d="{}" fill="none" stroke="{}" stroke-width="1.5"/>)", path, colour);
  }

  const Chart& chart_;
  std::string out_;
};

}  // namespace

std::string draw_svg(const Chart& chart) {
  return Svg(chart).draw();
}

}  // namespace torchkeep::cli
