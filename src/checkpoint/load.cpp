// SPDX-License-Identifier: BSD-3-Clause
// load: a file to a Value in memory, or to one that looks at the mapped file.
#include "open_path.h"
#include "threads.h"

namespace torchkeep {

namespace {

Value read(const OpenedFile& file, const std::string& name, const LoadOptions& options) {
  try {
    return read_all(file, reading_threads(options.threads), options.map).from_file(name);
  } catch (const Error& error) {
    throw with_tensors(error, file).at({.file = name, .record = {}, .offset = {}, .key = {}});
  }
}

}  // namespace

Value load(const std::string& path, const LoadOptions& options) {
  return read(open_structure(path, options), path, options);
}

Value load(const std::shared_ptr<const ReadAt>& file, const LoadOptions& options, std::uint64_t* end) {
  const OpenedFile opened = open_structure(file, options);
  if (end != nullptr) *end = opened.end;
  return read(opened, file->name(), options);
}

}  // namespace torchkeep
