// SPDX-License-Identifier: BSD-3-Clause
// Curves into dots, and dots into characters.
#include "dots.h"

#include <algorithm>
#include <cmath>
#include <cstdint>

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

// The row of dots at which a number lies; the first is on top.
std::size_t row_of(const Panel& panel, double value, std::size_t height) {
  return static_cast<std::size_t>(std::lround((1 - panel.range.share(value)) * static_cast<double>(height - 1)));
}

// A line from the row `from` before the column `begin` to the row `to` at the column `end`.
void connect(Dots& dots, std::size_t begin, std::size_t from, std::size_t end, std::size_t to) {
  const double rise = static_cast<double>(to) - static_cast<double>(from);
  std::size_t last = from;
  for (std::size_t x = begin + 1; x <= end; ++x) {
    const double share = static_cast<double>(x - begin) / static_cast<double>(end - begin);
    const auto y = static_cast<std::size_t>(std::lround(static_cast<double>(from) + rise * share));
    dots.line(x, last, y);
    last = y;
  }
}

void draw_curve(Dots& dots, const Chart& chart, const Panel& panel, const Curve& curve, std::size_t width,
                std::size_t height) {
  const Column* before = nullptr;
  const std::vector<Column> found = columns_of(curve, chart.steps, width);
  for (const Column& column : found) {
    dots.line(column.column, row_of(panel, column.low, height), row_of(panel, column.high, height));
    if (before != nullptr && column.joined) {
      connect(dots, before->column, row_of(panel, before->last, height), column.column,
              row_of(panel, column.first, height));
    }
    before = &column;
  }
}

}  // namespace

std::vector<std::string> draw_dots(const Chart& chart, const Panel& panel, std::size_t columns, std::size_t rows) {
  Dots dots(columns, rows);
  for (const Curve* curve : panel.curves) draw_curve(dots, chart, panel, *curve, 2 * columns, 4 * rows);
  std::vector<std::string> lines;
  for (std::size_t row = 0; row < rows; ++row) lines.push_back(dots.row(row));
  return lines;
}

}  // namespace torchkeep::cli
