// SPDX-License-Identifier: BSD-3-Clause
// load: a file to a Value in memory, or to one that looks at the mapped file.
#include "open_path.h"
#include "threads.h"

namespace torchkeep {

Value load(const std::string& path, const LoadOptions& options) {
  const OpenedFile file = open_path(path, options);
  try {
    return read_all(file, reading_threads(options.threads), options.map).from_file(path);
  } catch (const Error& error) {
    throw with_tensors(error, file).at({.file = path, .record = {}, .offset = {}, .key = {}});
  }
}

}  // namespace torchkeep
