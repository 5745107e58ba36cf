// SPDX-License-Identifier: BSD-3-Clause
// A real file system of a few hundred kilobytes, to be filled up: a tmpfs, where this process may mount one.
#pragma once

#if defined(__linux__)
#include <sys/mount.h>
#endif

#include <cerrno>
#include <cstdint>
#include <string>
#include <system_error>

#include "support/temp_dir.h"

namespace torchkeep::testing {

class SmallDisk final {
 public:
  explicit SmallDisk(std::uint64_t bytes) {
#if defined(__linux__)
    const std::string size = "size=" + std::to_string(bytes);
    if (::mount("tmpfs", folder_.path().c_str(), "tmpfs", 0, size.c_str()) == 0) return;
    refusal_ = "cannot mount a tmpfs: " + std::generic_category().message(errno);
#else
    refusal_ = "no tmpfs of " + std::to_string(bytes) + " bytes on this system";
#endif
  }
  SmallDisk(const SmallDisk&) = delete;
  SmallDisk& operator=(const SmallDisk&) = delete;
  ~SmallDisk() {
#if defined(__linux__)
    if (mounted()) ::umount2(folder_.path().c_str(), MNT_DETACH);
#endif
  }

  bool mounted() const noexcept {
    return refusal_.empty();
  }
  /// Why there is no disk; for GTEST_SKIP.
  const std::string& refusal() const noexcept {
    return refusal_;
  }
  std::string operator/(const std::string& name) const {
    return folder_ / name;
  }
  const std::string& path() const noexcept {
    return folder_.path();
  }

 private:
  TempDir folder_;
  std::string refusal_;
};

}  // namespace torchkeep::testing
