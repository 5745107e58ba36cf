// SPDX-License-Identifier: BSD-3-Clause
// The text a run learns from, as tokens, with the size and checksum that tell it from another text.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

namespace demo {

/// A file of bytes; every different byte in it is one token.
struct Text {
  std::string vocabulary;       ///< the bytes that occur, ascending; a token is an index into it
  std::vector<int64_t> tokens;  ///< the whole text
  uint32_t crc32 = 0;           ///< of the file's bytes

  std::string decode(const std::vector<int64_t>& tokens) const;
};

/// Throws torchkeep::Error when the file cannot be read or holds fewer than `at_least` bytes.
Text read_text(const std::filesystem::path& path, std::size_t at_least);

}  // namespace demo
