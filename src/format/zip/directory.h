// SPDX-License-Identifier: BSD-3-Clause
// Finding and parsing the end records and the central directory of a zip.
#pragma once

#include <vector>

#include <torchkeep/base/bytes.h>
#include <torchkeep/format/pt.h>

#include "zip.h"

namespace torchkeep::zip {

/// What the end records say.
struct Directory {
  std::uint64_t offset = 0;  ///< of the first central entry
  std::uint64_t size = 0;    ///< bytes of all central entries
  std::uint64_t count = 0;   ///< of entries
};

/// Reads the end records and checks that directory, end records and the end of the file join without a gap.
Directory find_directory(const ReadAt& file, const Limits& limits);

/// Parses all central entries. Names are views into `bytes` and still begin with the root folder; limits are not set.
LargeVector<Record> parse_directory(Bytes bytes, const Directory& directory, const std::string& file);

}  // namespace torchkeep::zip
