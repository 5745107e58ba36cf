// SPDX-License-Identifier: BSD-3-Clause
// Paths and places of errors, as the run layer writes them.
#pragma once

#include <string>
#include <string_view>

#include <torchkeep/base/error.h>

namespace torchkeep {

inline std::string in_directory(const std::string& directory, std::string_view name) {
  std::string path = directory;
  if (!path.ends_with('/')) path += '/';
  return path.append(name);
}

inline Where at_file(std::string path) {
  Where where;
  where.file = std::move(path);
  return where;
}

}  // namespace torchkeep
