// SPDX-License-Identifier: BSD-3-Clause
// Advice to the system about large memory.
#include <algorithm>
#include <fstream>
#include <unistd.h>

#include <torchkeep/base/memory.h>
#if defined(__linux__)
#include <sys/mman.h>
#endif

namespace torchkeep {
namespace {

constexpr std::uint64_t kUnlimited = std::numeric_limits<std::uint64_t>::max();

/// The number in a file of one line; kUnlimited for "max", and where there is none.
std::uint64_t limit_in(const std::string& path) {
  std::uint64_t limit = 0;
  return std::ifstream(path) >> limit ? limit : kUnlimited;
}

/// The smallest limit of a group and of those above it. A container may see its own group as the topmost one while its
/// path is that on the host: then the folders of that path are not there, and the topmost one counts.
std::uint64_t limit_of(const std::string& hierarchy, std::string group, const std::string& file) {
  std::uint64_t limit = limit_in(hierarchy + "/" + file);
  for (; group.size() > 1; group.resize(std::max<std::size_t>(group.rfind('/'), 1))) {
    limit = std::min(limit, limit_in(hierarchy + group + "/" + file));
    if (group.rfind('/') == 0) break;
  }
  return limit;
}

std::uint64_t cgroup_limit(const std::string& root) {
  std::uint64_t limit = kUnlimited;
  std::ifstream groups(root + "/proc/self/cgroup");
  for (std::string line; std::getline(groups, line);) {  // "number:controllers:/group"
    const std::size_t first = line.find(':');
    const std::size_t second = first == std::string::npos ? first : line.find(':', first + 1);
    if (second == std::string::npos) continue;
    const std::string controllers = "," + line.substr(first + 1, second - first - 1) + ",";
    const std::string group = line.substr(second + 1);
    if (controllers == ",,") limit = std::min(limit, limit_of(root + "/sys/fs/cgroup", group, "memory.max"));
    if (controllers.find(",memory,") != std::string::npos)
      limit = std::min(limit, limit_of(root + "/sys/fs/cgroup/memory", group, "memory.limit_in_bytes"));
  }
  return limit;
}

}  // namespace

std::uint64_t usable_memory(const std::string& root) {
  const long pages = ::sysconf(_SC_PHYS_PAGES);
  const long size = ::sysconf(_SC_PAGESIZE);
  const std::uint64_t machine =
      pages > 0 && size > 0 ? static_cast<std::uint64_t>(pages) * static_cast<std::uint64_t>(size) : 0;
  return std::min(machine, cgroup_limit(root));
}

void prefer_huge_pages([[maybe_unused]] MutableBytes memory) noexcept {
#if defined(MADV_HUGEPAGE)
  const auto begin = reinterpret_cast<std::uintptr_t>(memory.data());
  const std::uintptr_t first = (begin + kHugePage - 1) / kHugePage * kHugePage;
  const std::uintptr_t last = (begin + memory.size()) / kHugePage * kHugePage;
  if (first < last) ::madvise(reinterpret_cast<void*>(first), last - first, MADV_HUGEPAGE);
#endif
}

}  // namespace torchkeep
