// SPDX-License-Identifier: BSD-3-Clause
// Names out of files and folders are bytes; this is how they are shown to people.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace torchkeep {

/// What printable() does with line ends and tabs.
enum class Lines : std::uint8_t { escape, keep };

/// Valid UTF-8 in which nothing moves a cursor or deceives the eye: control characters, marks of direction and bytes
/// that are no UTF-8 become "\\n", "\\t" or "\\xNN". Printable again, it stays as it is.
std::string printable(std::string_view text, Lines lines = Lines::escape);

/// Whether printable() would change nothing, for plain ASCII: a quick look. False when it might.
bool is_plain_ascii(std::string_view text) noexcept;

}  // namespace torchkeep
