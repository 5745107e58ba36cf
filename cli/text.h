// SPDX-License-Identifier: BSD-3-Clause
// How sizes, numbers, shapes and values are written for people.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include <torchkeep/base/memory.h>
#include <torchkeep/state/value.h>

#include "output.h"

namespace torchkeep::cli {

/// "0 B", "999 B", "1.5 KB", "12.4 GB": powers of 1000, three digits.
std::string human_size(std::uint64_t bytes);
/// "1,234,567".
std::string grouped(std::uint64_t number);
/// "[2, 3]"; "[]" for a scalar.
std::string shape_text(const std::vector<std::int64_t>& sizes);
/// A number with six significant digits: "0.0123457", "1e-08", "nan".
std::string short_number(double number);
/// As Python prints it: "0.1", "1e-08", "inf".
std::string python_number(double number);
/// "1 tensor", "2 tensors".
std::string counted(std::uint64_t number, std::string_view one, std::string_view many = {});

/// A value in one line of at most about `width` columns, printable: 3, 0.5, 'text', [1, 2, 3, ... 148 in all],
/// float32 [2, 3], {3 entries}.
std::string one_line(const Value& value, std::size_t width = 60);
/// What a value is: "float32", "int", "dict", "object of a.B".
std::string type_text(const Value& value);

/// Rows of cells in columns, two blanks apart. All texts lie in one buffer: a table may have 100,000 rows.
class Table {
 public:
  enum class Align { left, right };
  struct Cell {
    Cell(std::string text, Style style = Style::plain)
        : text(std::move(text)), style(style) {}  // NOLINT: a text is a cell
    std::string text;                             ///< printable
    Style style;
  };
  explicit Table(std::vector<Align> columns) : align_(std::move(columns)), widths_(align_.size(), 0) {}
  /// Room for so many rows of some 60 characters.
  void reserve(std::size_t rows);
  /// The next cell of the current row; the text is printable.
  void cell(std::string_view text, Style style = Style::plain);
  /// Columns at the end may be left out.
  void end_row();
  /// A row at once.
  void add(const std::vector<Cell>& row);
  /// The rows as lines, with the styles that `out` shows.
  std::vector<std::string> lines(const Output& out) const;
  /// Writes all rows, each after `indent` blanks.
  void write(Output& out, std::size_t indent = 0) const;

 private:
  struct Placed {
    std::uint32_t size;
    std::uint32_t columns;
    Style style;
    bool ends_row = false;
  };
  template <class Take>
  void render(const Output& out, std::size_t indent, Take&& take) const;

  std::vector<Align> align_;
  std::vector<std::size_t> widths_;
  std::basic_string<char, std::char_traits<char>, LargeAllocator<char>> text_;
  LargeVector<Placed> cells_;
  std::size_t column_ = 0;
};

}  // namespace torchkeep::cli
