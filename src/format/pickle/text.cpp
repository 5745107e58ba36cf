// SPDX-License-Identifier: BSD-3-Clause
// The text encodings met in pickles.
#include "text.h"

#include <cstdint>
#include <cstring>

namespace torchkeep::pickle {
namespace {

unsigned char at(std::string_view text, std::size_t i) noexcept {
  return static_cast<unsigned char>(text[i]);
}

void append_utf8(std::string& out, std::uint32_t c) {
  const auto put = [&out](std::uint32_t byte) { out += static_cast<char>(byte); };
  if (c < 0x80) return put(c);
  if (c < 0x800) return put(0xc0 | c >> 6), put(0x80 | (c & 0x3f));
  if (c < 0x10000) return put(0xe0 | c >> 12), put(0x80 | (c >> 6 & 0x3f)), put(0x80 | (c & 0x3f));
  put(0xf0 | c >> 18), put(0x80 | (c >> 12 & 0x3f)), put(0x80 | (c >> 6 & 0x3f)), put(0x80 | (c & 0x3f));
}

// Length of the sequence that begins at `i`, 0 when it is malformed.
std::size_t sequence_length(std::string_view text, std::size_t i) noexcept {
  const unsigned char lead = at(text, i);
  const std::size_t length = lead < 0x80                   ? 1
                             : lead >= 0xc2 && lead < 0xe0 ? 2
                             : lead >= 0xe0 && lead < 0xf0 ? 3
                             : lead >= 0xf0 && lead < 0xf5 ? 4
                                                           : 0;
  if (length == 0 || length > text.size() - i) return 0;
  for (std::size_t k = 1; k < length; ++k) {
    if ((at(text, i + k) & 0xc0) != 0x80) return 0;
  }
  if (lead == 0xe0 && at(text, i + 1) < 0xa0) return 0;
  if (lead == 0xf0 && at(text, i + 1) < 0x90) return 0;
  if (lead == 0xf4 && at(text, i + 1) > 0x8f) return 0;
  return length;
}

int hex_digit(char c) noexcept {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

std::optional<std::uint32_t> read_hex(std::string_view text, std::size_t begin, std::size_t count) noexcept {
  if (count > text.size() - begin) return std::nullopt;
  std::uint32_t value = 0;
  for (std::size_t i = 0; i < count; ++i) {
    const int digit = hex_digit(text[begin + i]);
    if (digit < 0) return std::nullopt;
    value = value << 4 | static_cast<std::uint32_t>(digit);
  }
  return value;
}

// One escape of Python 2's repr, `i` at the character behind the backslash and moved past the escape.
bool append_escape(std::string& out, std::string_view text, std::size_t& i) {
  constexpr std::string_view kNames = "\\'\"abfnrtv";
  constexpr std::string_view kValues = "\\'\"\a\b\f\n\r\t\v";
  const char c = text[i++];
  if (const std::size_t named = kNames.find(c); named != std::string_view::npos) {
    out += kValues[named];
  } else if (c == 'x') {
    const auto value = read_hex(text, i, 2);
    if (!value) return false;
    out += static_cast<char>(*value);
    i += 2;
  } else if (c >= '0' && c <= '7') {
    unsigned value = static_cast<unsigned>(c - '0');
    for (int k = 0; k < 2 && i < text.size() && text[i] >= '0' && text[i] <= '7'; ++k) {
      value = value * 8 + static_cast<unsigned>(text[i++] - '0');
    }
    out += static_cast<char>(value);
  } else {
    out += '\\';
    out += c;
  }
  return true;
}

}  // namespace

bool is_utf8(std::string_view text) noexcept {
  for (std::size_t i = 0; i < text.size();) {
    std::uint64_t word = 0;
    if (text.size() - i >= 8) {
      std::memcpy(&word, text.data() + i, 8);
      if ((word & 0x8080808080808080) == 0) {
        i += 8;
        continue;
      }
    }
    const std::size_t length = sequence_length(text, i);
    if (length == 0) return false;
    i += length;
  }
  return true;
}

std::string latin1_to_utf8(std::string_view bytes) {
  std::string text;
  text.reserve(bytes.size());
  for (const char c : bytes) append_utf8(text, static_cast<unsigned char>(c));
  return text;
}

std::optional<std::string> utf8_to_latin1(std::string_view text) {
  std::string bytes;
  bytes.reserve(text.size());
  for (std::size_t i = 0; i < text.size(); ++i) {
    const unsigned char lead = at(text, i);
    if (lead < 0x80) {
      bytes += text[i];
    } else {
      if (lead > 0xc3) return std::nullopt;
      bytes += static_cast<char>((lead & 3) << 6 | (at(text, ++i) & 0x3f));
    }
  }
  return bytes;
}

std::optional<std::string> utf8_from(std::u32string_view points) {
  std::string text;
  for (const char32_t point : points) {
    if (point > 0x10ffff) return std::nullopt;
    append_utf8(text, point);
  }
  return text;
}

std::optional<std::string> decode_raw_unicode_escape(std::string_view line) {
  std::string text;
  bool after_odd_backslashes = false;
  for (std::size_t i = 0; i < line.size(); ++i) {
    const bool is_escape = after_odd_backslashes && (line[i] == 'u' || line[i] == 'U');
    after_odd_backslashes = line[i] == '\\' && !after_odd_backslashes;
    if (!is_escape) {
      append_utf8(text, at(line, i));
      continue;
    }
    const std::size_t digits = line[i] == 'u' ? 4 : 8;
    const auto value = read_hex(line, i + 1, digits);
    if (!value || *value > 0x10ffff) return std::nullopt;
    text.pop_back();
    append_utf8(text, *value);
    i += digits;
  }
  return text;
}

std::optional<std::string> decode_quoted(std::string_view line) {
  if (line.size() < 2 || line.front() != line.back() || (line.front() != '\'' && line.front() != '"'))
    return std::nullopt;
  line = line.substr(1, line.size() - 2);
  std::string text;
  for (std::size_t i = 0; i < line.size();) {
    if (line[i] != '\\') {
      text += line[i++];
    } else if (++i == line.size() || !append_escape(text, line, i)) {
      return std::nullopt;
    }
  }
  return text;
}

}  // namespace torchkeep::pickle
