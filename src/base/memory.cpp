// SPDX-License-Identifier: BSD-3-Clause
// Advice to the system about large memory.
#include <torchkeep/base/memory.h>
#if defined(__linux__)
#include <sys/mman.h>
#endif

namespace torchkeep {

void prefer_huge_pages([[maybe_unused]] MutableBytes memory) noexcept {
#if defined(MADV_HUGEPAGE)
  const auto begin = reinterpret_cast<std::uintptr_t>(memory.data());
  const std::uintptr_t first = (begin + kHugePage - 1) / kHugePage * kHugePage;
  const std::uintptr_t last = (begin + memory.size()) / kHugePage * kHugePage;
  if (first < last) ::madvise(reinterpret_cast<void*>(first), last - first, MADV_HUGEPAGE);
#endif
}

}  // namespace torchkeep
