// SPDX-License-Identifier: BSD-3-Clause
// What posix_fs.cpp and posix_lock.cpp share: descriptors that close themselves, calls that outlast signals.
#pragma once

#include <cerrno>
#include <fcntl.h>
#include <optional>
#include <string>
#include <string_view>
#include <sys/stat.h>
#include <unistd.h>
#include <utility>

#include <torchkeep/base/error.h>
#include <torchkeep/files/fs.h>

namespace torchkeep::posix {

class Descriptor final {
 public:
  explicit Descriptor(int fd = -1) noexcept : fd_(fd) {}
  Descriptor(Descriptor&& other) noexcept : fd_(other.release()) {}
  Descriptor& operator=(Descriptor&& other) noexcept {
    std::swap(fd_, other.fd_);
    return *this;
  }
  ~Descriptor() {
    if (fd_ >= 0) ::close(fd_);
  }
  int get() const noexcept { return fd_; }
  bool valid() const noexcept { return fd_ >= 0; }
  int release() noexcept { return std::exchange(fd_, -1); }

 private:
  int fd_;
};

/// The result of `call`, repeated while a signal interrupts it.
template <class Call>
auto retry(Call call) {
  auto result = call();
  while (result == -1 && errno == EINTR) result = call();
  return result;
}

/// Throws what `error` means for the file `path`.
[[noreturn]] inline void fail(int error, std::string_view action, const std::string& path) {
  Where where;
  where.file = path;
  throw Error::from_errno(error, action, std::move(where));
}

/// Throws Error (invalid_argument).
[[noreturn]] void fail_kind(const char* message, const std::string& path, int error = 0);
/// Throws what `error` of an open() means; a link, folder, pipe or socket where a file is expected by its kind.
[[noreturn]] void fail_open(int error, std::string_view action, const std::string& path);

FileStatus to_status(const struct stat& info);
/// The status of an open file. Throws Error (invalid_argument) unless it is a regular one.
FileStatus require_regular(const Descriptor& file, const std::string& path);

/// The path for a system call. Throws Error (invalid_argument) for one with a NUL, where the system would cut it off.
inline const char* native(const std::string& path) {
  if (path.find('\0') == std::string::npos) return path.c_str();
  fail_kind("expected a path, found one with a NUL byte in it", path);
}

/// How a file of ours is opened by its name, in a folder where others may have put something else there: a link is not
/// followed, and the other end of a pipe is not waited for. What was opened is to be looked at (fstat).
constexpr int kOwnFile = O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC;

/// Which file it is, whatever its names.
struct FileId {
  dev_t device = 0;
  ino_t inode = 0;
  bool operator==(const FileId&) const = default;
};
/// The file of an open descriptor; nothing when the system does not say.
inline std::optional<FileId> identify(const Descriptor& file) {
  struct stat info {};
  if (::fstat(file.get(), &info) != 0) return std::nullopt;
  return FileId{info.st_dev, info.st_ino};
}

/// What a lock file that this process holds contains; nothing for any other file. Such a file must not be opened:
/// closing it again would drop the lock.
std::optional<std::string> note_of_held_lock(const std::string& path);

/// Fs::try_lock.
LockAttempt try_lock(const std::string& path, const std::string& note);

}  // namespace torchkeep::posix
