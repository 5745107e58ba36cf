// SPDX-License-Identifier: BSD-3-Clause
// The JSON writer.
#include "json.h"

#include <algorithm>
#include <cmath>
#include <fmt/format.h>
#include <nlohmann/json.hpp>
#include <utility>

namespace torchkeep::cli {
namespace {

constexpr std::size_t kIndented = 3;  // levels of containers that are laid out line by line

}  // namespace

void JsonWriter::begin_document(std::string_view schema) {
  begin_object();
  member("schema", schema);
}

void JsonWriter::end_document() {
  end_object();
  out_.line();
}

void JsonWriter::new_line() {
  if (depth_ > kIndented) return;
  out_.write("\n");
  for (std::size_t i = 0; i < depth_; ++i) out_.write("  ");
}

void JsonWriter::separate() {
  if (std::exchange(after_key_, false)) return;
  if (!std::exchange(first_, false)) out_.write(depth_ > kIndented ? ", " : ",");
  if (depth_ > 0) new_line();
}

void JsonWriter::raw(std::string_view text) {
  separate();
  out_.write(text);
}

void JsonWriter::begin(char bracket) {
  raw(std::string_view(&bracket, 1));
  ++depth_;
  first_ = true;
}

void JsonWriter::end(char bracket) {
  --depth_;
  if (!std::exchange(first_, false) && depth_ < kIndented) new_line();
  out_.write(std::string_view(&bracket, 1));
}

void JsonWriter::key(std::string_view name) {
  text(name);
  out_.write(": ");
  after_key_ = true;
}

void JsonWriter::text(std::string_view text) {
  const bool plain = std::all_of(text.begin(), text.end(), [](char c) {
    return c >= 0x20 && c != '"' && c != '\\' && c != 0x7f && static_cast<unsigned char>(c) < 0x80;
  });
  if (plain) {
    separate();
    out_.write("\"");
    out_.write(text);
    out_.write("\"");
  } else {
    // What is no UTF-8 (a lone surrogate, say) becomes U+FFFD.
    raw(nlohmann::json(std::string(text)).dump(-1, ' ', false, nlohmann::json::error_handler_t::replace));
  }
}

void JsonWriter::number(double number) {
  if (std::isnan(number)) return text("NaN");
  if (std::isinf(number)) return text(number > 0 ? "Infinity" : "-Infinity");
  std::string digits = fmt::format("{}", number);
  if (digits.find_first_not_of("-0123456789") == std::string::npos) digits += ".0";
  raw(digits);
}

void JsonWriter::member(std::string_view name, const std::vector<std::int64_t>& numbers) {
  key(name);
  std::string text = "[";
  for (const std::int64_t number : numbers) text += fmt::format("{}{}", text.size() > 1 ? ", " : "", number);
  raw(text + "]");
}

void JsonWriter::member(std::string_view name, const std::vector<std::string>& texts) {
  key(name);
  begin_array();
  for (const std::string& each : texts) text(each);
  end_array();
}

}  // namespace torchkeep::cli
