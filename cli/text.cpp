// SPDX-License-Identifier: BSD-3-Clause
// Formatting for people.
#include "text.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <fmt/format.h>
#include <fmt/ranges.h>

namespace torchkeep::cli {

std::string human_size(std::uint64_t bytes) {
  constexpr std::array<std::string_view, 7> kUnits = {"B", "KB", "MB", "GB", "TB", "PB", "EB"};
  if (bytes < 1000) return std::string(fmt::format_int(bytes).c_str()) + " B";
  double amount = static_cast<double>(bytes);
  std::size_t unit = 0;
  // 999.95 would be written as 1000 with three digits: it belongs to the next unit.
  while (amount >= 999.5 && unit + 1 < kUnits.size()) amount /= 1000, ++unit;
  const int digits = amount < 9.995 ? 2 : amount < 99.95 ? 1 : 0;
  return fmt::format("{:.{}f} {}", amount, digits, kUnits[unit]);
}

std::string grouped(std::uint64_t number) {
  std::string text = fmt::format("{}", number);
  for (std::size_t at = text.size(); at > 3;) text.insert(at -= 3, ",");
  return text;
}

std::string shape_text(const std::vector<std::int64_t>& sizes) {
  std::string text = "[";
  for (const std::int64_t size : sizes) {
    if (text.size() > 1) text += ", ";
    text += fmt::format_int(size).c_str();
  }
  return text += ']';
}

std::string short_number(double number) {
  return fmt::format("{:.6g}", number);
}

std::string python_number(double number) {
  std::string text = fmt::format("{}", number);
  const bool looks_whole = text.find_first_not_of("-0123456789") == std::string::npos;
  return looks_whole ? text + ".0" : text;
}

std::string counted(std::uint64_t number, std::string_view one, std::string_view many) {
  if (number == 1) return fmt::format("1 {}", one);
  return many.empty() ? fmt::format("{} {}s", grouped(number), one) : fmt::format("{} {}", grouped(number), many);
}

namespace {

std::string cut(std::string text, std::size_t width) {
  if (columns(text) <= width || width < 4) return text;
  std::size_t end = 0;
  for (std::size_t column = 0; end < text.size(); ++end) {
    const bool begins = (static_cast<unsigned char>(text[end]) & 0xc0) != 0x80;
    if (begins && ++column > width - 3) break;
  }
  return text.substr(0, end) + "...";
}

std::string elements_line(const Value& value, std::size_t width) {
  const bool is_tuple = value.is(Kind::tuple);
  std::string text = value.is(Kind::list) ? "[" : is_tuple ? "(" : fmt::format("{}(", to_string(value.kind()));
  const auto elements = value.elements();
  std::size_t shown = 0;
  for (std::size_t taken = columns(text); shown < elements.size(); ++shown) {
    const std::string element = (shown == 0 ? "" : ", ") + one_line(elements[shown], 20);
    taken += columns(element);
    if (taken + 18 > width && shown + 1 < elements.size() && shown > 0) break;
    text += element;
  }
  if (shown < elements.size()) text += fmt::format(", ... {} in all", grouped(elements.size()));
  return text + (value.is(Kind::list) ? "]" : is_tuple && elements.size() == 1 ? ",)" : ")");
}

bool is_plain(const Value& value) {
  return value.kind() <= Kind::bytearray || value.is(Kind::dtype) || value.is(Kind::device);
}

}  // namespace

std::string type_text(const Value& value) {
  switch (value.kind()) {
    case Kind::tensor:
      return std::string(to_string(value.as_tensor().dtype));
    case Kind::sparse_tensor:
      return value.as_sparse_tensor().layout;
    case Kind::opaque: {
      const Opaque& object = value.as_opaque();
      return printable(object.module.empty() ? object.name : fmt::format("{}.{}", object.module, object.name));
    }
    default:
      return std::string(to_string(value.kind()));
  }
}

std::string one_line(const Value& value, std::size_t width) {
  switch (value.kind()) {
    case Kind::none:
      return "None";
    case Kind::boolean:
      return value.as_boolean() ? "True" : "False";
    case Kind::integer:
      return cut(value.as_integer().to_decimal(), width);
    case Kind::real:
      return python_number(value.as_real());
    case Kind::complex:
      return fmt::format("({}{:+}j)", value.as_complex().real(), value.as_complex().imag());
    case Kind::string:
      return cut("'" + printable(value.as_string().substr(0, 4 * width)) + "'", width);
    case Kind::bytes:
    case Kind::bytearray:
      return cut("b'" + printable(value.as_bytes().substr(0, 4 * width)) + "'", width);
    case Kind::dtype:
      return fmt::format("torch.{}", to_string(value.as_dtype()));
    case Kind::device:
      return fmt::format("device('{}')", printable(value.as_device().name));
    case Kind::tensor:
      return fmt::format("{} {}", type_text(value), shape_text(value.as_tensor().sizes));
    case Kind::sparse_tensor:
      return fmt::format("{} {}", type_text(value), shape_text(value.as_sparse_tensor().sizes));
    case Kind::opaque:
      return fmt::format("<object of {}>", type_text(value));
    default:
      break;
  }
  if (value.is_mapping()) return fmt::format("{{{}}}", counted(value.size(), "entry", "entries"));
  const bool has_elements = value.is_sequence() || value.is(Kind::set) || value.is(Kind::frozenset);
  if (!has_elements) return fmt::format("<{}>", to_string(value.kind()));
  const auto elements = value.elements();
  // A look at the first few only: this is one line.
  const auto looked = elements.first(std::min<std::size_t>(elements.size(), 64));
  if (std::all_of(looked.begin(), looked.end(), is_plain)) return elements_line(value, width);
  return fmt::format("[{}]", counted(elements.size(), "element"));
}

// One long cell does not make 100,000 rows long.
constexpr std::size_t kMaxPadded = 200;

void Table::reserve(std::size_t rows) {
  cells_.reserve(rows * align_.size());
  text_.reserve(rows * 60);
}

void Table::cell(std::string_view text, Style style) {
  const std::size_t width = columns(text);
  widths_[column_] = std::max(widths_[column_], std::min(width, kMaxPadded));
  text_ += text;
  cells_.push_back({static_cast<std::uint32_t>(text.size()), static_cast<std::uint32_t>(width), style});
  ++column_;
}

void Table::end_row() {
  if (column_ == 0) cell("");
  cells_.back().ends_row = true;
  column_ = 0;
}

void Table::add(const std::vector<Cell>& row) {
  for (const Cell& each : row) cell(each.text, each.style);
  end_row();
}

template <class Take>
void Table::render(const Output& out, std::size_t indent, Take&& take) const {
  std::string line;
  std::size_t begin = 0, column = 0;
  for (const Placed& placed : cells_) {
    line.append(column == 0 ? indent : 2, ' ');
    const std::size_t padding = widths_[column] - std::min<std::size_t>(placed.columns, widths_[column]);
    if (align_[column] == Align::right) line.append(padding, ' ');
    const std::string_view text = std::string_view(text_).substr(begin, placed.size);
    if (out.coloured())
      line += out.styled(placed.style, text);
    else
      line += text;
    if (align_[column] == Align::left && !placed.ends_row) line.append(padding, ' ');
    begin += placed.size;
    ++column;
    if (!placed.ends_row) continue;
    line.erase(line.find_last_not_of(' ') + 1);
    take(line);
    line.clear();
    column = 0;
  }
}

std::vector<std::string> Table::lines(const Output& out) const {
  std::vector<std::string> lines;
  render(out, 0, [&](const std::string& line) { lines.push_back(line); });
  return lines;
}

void Table::write(Output& out, std::size_t indent) const {
  render(out, indent, [&](const std::string& line) { out.line(line); });
}

}  // namespace torchkeep::cli
