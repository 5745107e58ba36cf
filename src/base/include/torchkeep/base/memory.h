// SPDX-License-Identifier: BSD-3-Clause
// Advice to the system about large memory.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <limits>
#include <new>
#include <string>
#include <vector>

#include <torchkeep/base/bytes.h>

namespace torchkeep {

/// Bytes of a large page where the system has them; large memory is best aligned to this.
inline constexpr std::size_t kHugePage = std::size_t{2} << 20;

/// Asks for large pages under this memory before it is first touched: they are several times cheaper to get. Only whole
/// pages inside it are affected. Advice: nothing happens where the system has none.
void prefer_huge_pages(MutableBytes memory) noexcept;

/// Bytes of memory that this process may use: the machine's, or fewer where a cgroup (a container, a batch system, a
/// systemd unit) limits them. `root` is where /proc and /sys are; 0 when nothing is known.
std::uint64_t usable_memory(const std::string& root = "");

/// An allocator for vectors that may become large: these get large pages. Numbers and bytes that resize() adds without
/// a value are left as they are, for whoever fills them next.
template <class T>
struct LargeAllocator {
  using value_type = T;
  LargeAllocator() noexcept = default;
  template <class U>
  LargeAllocator(const LargeAllocator<U>&) noexcept {}  // NOLINT: allocators convert

  T* allocate(std::size_t count) {
    static_assert(alignof(T) <= alignof(std::max_align_t));
    if (count > std::numeric_limits<std::size_t>::max() / sizeof(T)) throw std::bad_array_new_length();
    const std::size_t size = count * sizeof(T);
    void* memory = size < kHugePage ? std::malloc(size) : nullptr;
    if (size >= kHugePage && ::posix_memalign(&memory, kHugePage, size) == 0) {
      prefer_huge_pages({static_cast<std::byte*>(memory), size});
    }
    if (memory == nullptr) throw std::bad_alloc();
    return static_cast<T*>(memory);
  }
  template <class U>
  void construct(U* place) noexcept(noexcept(U())) {
    ::new (static_cast<void*>(place)) U;
  }
  void deallocate(T* memory, std::size_t) noexcept { std::free(memory); }
  bool operator==(const LargeAllocator&) const noexcept { return true; }
};

/// A vector that may become large.
template <class T>
using LargeVector = std::vector<T, LargeAllocator<T>>;

}  // namespace torchkeep
