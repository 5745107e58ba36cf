// SPDX-License-Identifier: BSD-3-Clause
#include "support/whole_file.h"

#include <filesystem>

namespace torchkeep::testing {

std::string read_file(Fs& fs, const std::string& path) {
  const auto file = fs.open_read(path);
  std::string text(file->size(), '\0');
  file->read_at(0, std::as_writable_bytes(std::span(text)));
  return text;
}

void create_file(Fs& fs, const std::string& path, std::string_view text) {
  const auto file = fs.create(path, {});
  file->write_at(0, as_bytes(text));
  file->sync();
  file->close();
  const std::string folder = std::filesystem::path(path).parent_path().string();
  fs.sync_directory(folder.empty() ? "." : folder);
}

}  // namespace torchkeep::testing
