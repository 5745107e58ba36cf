// SPDX-License-Identifier: BSD-3-Clause
// Names out of a file, made fit for an error message.
#pragma once

#include <fmt/format.h>
#include <string>
#include <string_view>

namespace torchkeep::detail {

/// The text with control characters (a NUL would end the message) written as \xNN, and cut where it is very long.
inline std::string show(std::string_view text) {
  constexpr std::size_t kMax = 200;
  std::string shown;
  for (const char c : text.substr(0, kMax)) {
    if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) {
      shown += fmt::format("\\x{:02x}", static_cast<unsigned>(c));
    } else {
      shown += c;
    }
  }
  return text.size() > kMax ? shown + "..." : shown;
}

}  // namespace torchkeep::detail
