// SPDX-License-Identifier: BSD-3-Clause
// What posix_fs.cpp and posix_lock.cpp share: descriptors that close themselves, calls that outlast signals.
#pragma once

#include <cerrno>
#include <string>
#include <string_view>
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

/// What a lock file that this process holds contains; nothing for any other file. Such a file must not be opened:
/// closing it again would drop the lock.
std::optional<std::string> note_of_held_lock(const std::string& path);

/// Fs::try_lock.
LockAttempt try_lock(const std::string& path, const std::string& note);

}  // namespace torchkeep::posix
