// SPDX-License-Identifier: BSD-3-Clause
// cachestat (Linux 6.5) tells what is cached; O_DIRECT and a piece of aligned memory for each thread read the rest.
#include "direct_reads.h"

#if defined(__linux__)
#include <algorithm>
#include <array>
#include <cstdlib>
#include <cstring>
#include <fcntl.h>
#include <string>
#include <sys/syscall.h>
#include <sys/vfs.h>

#include <torchkeep/base/memory.h>

namespace torchkeep::posix {
namespace {

constexpr std::size_t kAlignment = 4096;  // what no disk and no file system asks more than
constexpr std::size_t kBuffer = (std::size_t{1} << 20) + 2 * kAlignment;  // a piece that lies anyhow

/// The disks of this machine: ext4, xfs, btrfs, f2fs.
constexpr std::array<long, 4> kLocal = {0xEF53, 0x58465342, 0x9123683E, 0xF2F52010};

bool is_local(int fd) noexcept {
  struct statfs info {};
  return ::fstatfs(fd, &info) == 0 && std::find(kLocal.begin(), kLocal.end(), long(info.f_type)) != kLocal.end();
}

struct Free {
  void operator()(std::byte* memory) const noexcept { std::free(memory); }
};

/// Memory of this thread, in one large page: pieces of a request that lie together are read three times as fast. Null
/// when there is none to be had.
std::byte* buffer() noexcept {
  thread_local const std::unique_ptr<std::byte, Free> memory = [] {
    auto* const page = static_cast<std::byte*>(std::aligned_alloc(kHugePage, kHugePage));
    if (page != nullptr) prefer_huge_pages({page, kHugePage});
    return std::unique_ptr<std::byte, Free>(page);
  }();
  return memory.get();
}
static_assert(kBuffer <= kHugePage);

/// The system calls of Linux's cachestat, which older headers lack.
struct CacheRange {
  std::uint64_t offset, size;
};
struct CacheState {
  std::uint64_t cached, dirty, writeback, evicted, recently_evicted;
};
constexpr long kCacheStat = 451;

}  // namespace

bool DirectReads::is_cold(std::uint64_t offset, std::uint64_t size) const noexcept {
  CacheRange range{offset, size};
  CacheState state{};
  if (size == 0 || ::syscall(kCacheStat, file_.get(), &range, &state, 0) != 0) return false;
  static const auto page = static_cast<std::uint64_t>(::sysconf(_SC_PAGESIZE));
  return state.cached < size / page / 2 && direct() >= 0;
}

/// The descriptor for direct reads; negative where there is none.
int DirectReads::direct() const noexcept {
  std::call_once(opened_, [this] {
    if (!is_local(file_.get())) return;
    // By its descriptor, for by now its name may be another file's.
    const std::string open_file = "/proc/self/fd/" + std::to_string(file_.get());
    direct_ = Descriptor(retry([&] { return ::open(native(open_file), O_RDONLY | O_DIRECT | O_CLOEXEC); }));
  });
  return direct_.get();
}

/// As many of the bytes as go into this thread's buffer; none where the system refuses.
Bytes DirectReads::read_piece(std::uint64_t offset, std::size_t size) const noexcept {
  std::byte* const memory = buffer();
  if (memory == nullptr || direct() < 0) return {};
  const auto before = static_cast<std::size_t>(offset % kAlignment);
  const std::size_t wanted = std::min(before + size, kBuffer);
  const std::size_t whole = (wanted + kAlignment - 1) / kAlignment * kAlignment;
  const ssize_t got = retry([&] { return ::pread(direct(), memory, whole, static_cast<off_t>(offset - before)); });
  if (got <= static_cast<ssize_t>(before)) return {};
  return Bytes(memory, std::min(wanted, static_cast<std::size_t>(got))).subspan(before);
}

bool DirectReads::read(std::uint64_t offset, MutableBytes out) const noexcept {
  while (!out.empty()) {
    const Bytes piece = read_piece(offset, out.size());
    if (piece.empty()) return false;
    std::memcpy(out.data(), piece.data(), piece.size());
    out = out.subspan(piece.size());
    offset += piece.size();
  }
  return true;
}

Bytes DirectReads::look_at(std::uint64_t offset, std::size_t size) const noexcept {
  const Bytes piece = read_piece(offset, size);
  return piece.size() == size ? piece : Bytes();
}

}  // namespace torchkeep::posix

#else

namespace torchkeep::posix {

bool DirectReads::is_cold(std::uint64_t, std::uint64_t) const noexcept {
  return false;
}
int DirectReads::direct() const noexcept {
  return -1;
}
bool DirectReads::read(std::uint64_t, MutableBytes) const noexcept {
  return false;
}
Bytes DirectReads::look_at(std::uint64_t, std::size_t) const noexcept {
  return {};
}

}  // namespace torchkeep::posix
#endif
