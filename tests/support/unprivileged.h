// SPDX-License-Identifier: BSD-3-Clause
// Root ignores permission bits; a test of them runs as an ordinary user for a while.
#pragma once

#include <cerrno>
#include <system_error>
#include <unistd.h>

namespace torchkeep::testing {

/// While this lives, a process of root acts as user and group 65534 (nobody). Does nothing for other users.
class Unprivileged final {
 public:
  Unprivileged() {
    if (::geteuid() != 0) return;
    group_ = ::getegid();
    check(::setegid(kNobody));
    check(::seteuid(kNobody));
    dropped_ = true;
  }
  Unprivileged(const Unprivileged&) = delete;
  Unprivileged& operator=(const Unprivileged&) = delete;
  ~Unprivileged() {
    if (!dropped_) return;
    [[maybe_unused]] const bool restored = ::seteuid(0) == 0 && ::setegid(group_) == 0;
  }

 private:
  static constexpr unsigned kNobody = 65534;
  static void check(int result) {
    if (result != 0) throw std::system_error(errno, std::generic_category(), "cannot give up root's rights");
  }
  bool dropped_ = false;
  gid_t group_ = 0;
};

}  // namespace torchkeep::testing
