// SPDX-License-Identifier: BSD-3-Clause
// What was opened, and why something could not be.
#include "posix.h"

#include <sys/stat.h>

namespace torchkeep::posix {

void fail_kind(const char* message, const std::string& path, int error) {
  Where where;
  where.file = path;
  throw Error(Code::invalid_argument, message, std::move(where)).with_errno(error);
}

namespace {

[[noreturn]] void fail_directory(const std::string& path) {
  fail_kind("expected a file, found a folder; name a file in it", path, EISDIR);
}
[[noreturn]] void fail_other(const std::string& path) {
  fail_kind("expected a regular file, found a device, pipe or socket", path);
}

}  // namespace

void fail_open(int error, std::string_view action, const std::string& path) {
  if (error == EISDIR) fail_directory(path);
  if (error == ENXIO) fail_other(path);  // a socket, or a pipe that nobody reads
  struct stat info {};
  const bool is_link = error == ELOOP && ::lstat(native(path), &info) == 0 && S_ISLNK(info.st_mode);
  if (is_link) fail_kind("expected a file, found a symbolic link, which is not followed here; remove it", path, error);
  fail(error, action, path);
}

FileStatus to_status(const struct stat& info) {
  FileStatus status;
  status.kind = S_ISREG(info.st_mode)   ? FileKind::regular
                : S_ISDIR(info.st_mode) ? FileKind::directory
                                        : FileKind::other;
  status.size = static_cast<std::uint64_t>(info.st_size);
  status.mode = info.st_mode & 0777U;
  status.names = info.st_nlink;
  return status;
}

FileStatus require_regular(const Descriptor& file, const std::string& path) {
  struct stat info {};
  if (::fstat(file.get(), &info) != 0) fail(errno, "read the file's status", path);
  const FileStatus status = to_status(info);
  if (status.kind == FileKind::directory) fail_directory(path);
  if (status.kind != FileKind::regular) fail_other(path);
  return status;
}

}  // namespace torchkeep::posix
