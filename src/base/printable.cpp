// SPDX-License-Identifier: BSD-3-Clause
// UTF-8 is passed on, everything else becomes escapes.
#include <algorithm>
#include <fmt/format.h>

#include <torchkeep/base/printable.h>

namespace torchkeep {
namespace {

// Length of the UTF-8 sequence at the start of `text`; 0 where there is none.
std::size_t utf8_length(std::string_view text) {
  const auto first = static_cast<unsigned char>(text[0]);
  const std::size_t length = first < 0x80                    ? 1
                             : first >= 0xc2 && first < 0xe0 ? 2
                             : first >= 0xe0 && first < 0xf0 ? 3
                             : first >= 0xf0 && first < 0xf5 ? 4
                                                             : 0;
  if (length == 0 || length > text.size()) return 0;
  for (std::size_t i = 1; i < length; ++i) {
    if ((static_cast<unsigned char>(text[i]) & 0xc0) != 0x80) return 0;
  }
  const auto second = static_cast<unsigned char>(length > 1 ? text[1] : 0);
  const bool overlong = (first == 0xe0 && second < 0xa0) || (first == 0xf0 && second < 0x90);
  const bool surrogate = first == 0xed && second >= 0xa0;
  return overlong || surrogate || (first == 0xf4 && second >= 0x90) ? 0 : length;
}

// Characters that change how a terminal shows others: C1 controls, marks of direction, line and paragraph separators.
bool is_deceptive(std::string_view character) {
  const auto byte = [&](std::size_t i) { return static_cast<unsigned char>(character[i]); };
  if (character.size() == 2) return byte(0) == 0xc2 && byte(1) < 0xa0;
  if (character.size() != 3 || byte(0) != 0xe2) return false;
  return (byte(1) == 0x80 && ((byte(2) >= 0x8b && byte(2) <= 0x8f) || (byte(2) >= 0xa8 && byte(2) <= 0xae))) ||
         (byte(1) == 0x81 && byte(2) >= 0xa6 && byte(2) <= 0xa9);
}

void append_escaped(std::string& out, std::string_view bytes) {
  for (const char c : bytes) fmt::format_to(std::back_inserter(out), "\\x{:02x}", static_cast<unsigned char>(c));
}

}  // namespace

bool is_plain_ascii(std::string_view text) noexcept {
  // Without a way out, so that the compiler looks at many bytes at once.
  unsigned odd = 0;
  for (const char c : text) odd |= static_cast<unsigned>(c < 0x20) | static_cast<unsigned>(c == 0x7f);
  return odd == 0;
}

std::string printable(std::string_view text, Lines lines) {
  if (is_plain_ascii(text)) return std::string(text);
  std::string out;
  out.reserve(text.size());
  while (!text.empty()) {
    const std::size_t length = utf8_length(text);
    const std::string_view character = text.substr(0, std::max<std::size_t>(length, 1));
    const char first = text[0];
    if (lines == Lines::keep && (first == '\n' || first == '\t'))
      out += first;
    else if (first == '\n')
      out += "\\n";
    else if (first == '\t')
      out += "\\t";
    else if (length == 0 || (length == 1 && (first < 0x20 || first == 0x7f)) || is_deceptive(character))
      append_escaped(out, character);
    else
      out += character;
    text.remove_prefix(character.size());
  }
  return out;
}

}  // namespace torchkeep
