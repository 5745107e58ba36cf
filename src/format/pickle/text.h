// SPDX-License-Identifier: BSD-3-Clause
// The text encodings met in pickles.
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace torchkeep::pickle {

/// True for UTF-8 as Python's "surrogatepass" reads it: shortest forms, up to U+10FFFF, lone surrogates allowed.
bool is_utf8(std::string_view text) noexcept;
/// Bytes 0 to 255 as the characters U+0000 to U+00FF.
std::string latin1_to_utf8(std::string_view bytes);
/// The inverse; nothing when a character is above U+00FF. `text` is UTF-8.
std::optional<std::string> utf8_to_latin1(std::string_view text);
/// Code points as UTF-8; nothing when one is above U+10FFFF.
std::optional<std::string> utf8_from(std::u32string_view points);
/// Protocol 0's text: latin-1 with \uXXXX and \UXXXXXXXX escapes. Nothing when an escape is broken.
std::optional<std::string> decode_raw_unicode_escape(std::string_view line);
/// Python 2's repr of a byte string: quoted, with backslash escapes. Nothing when it is malformed.
std::optional<std::string> decode_quoted(std::string_view line);

}  // namespace torchkeep::pickle
