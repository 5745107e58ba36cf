// SPDX-License-Identifier: BSD-3-Clause
// What every file system has in common.
#include <torchkeep/files/fs.h>

namespace torchkeep {

std::string_view to_string(FileKind kind) noexcept {
  switch (kind) {
    case FileKind::regular:
      return "a file";
    case FileKind::directory:
      return "a folder";
    case FileKind::link:
      return "a symbolic link";
    case FileKind::other:
      return "a device, pipe or socket";
  }
  return "something else";
}

std::optional<FileStatus> Fs::entry(const std::string& path) {
  if (read_link(path)) return FileStatus{.kind = FileKind::link};
  return status(path);
}

}  // namespace torchkeep
