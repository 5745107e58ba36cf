// SPDX-License-Identifier: BSD-3-Clause
// io_uring with registered buffers: one ring is set up per process, on first use, and reused by one file after another.
#include "uring_queue.h"

#if defined(TORCHKEEP_URING)
#include <array>
#include <liburing.h>
#include <mutex>
#include <sys/mman.h>
#include <sys/uio.h>
#include <unistd.h>

#include <torchkeep/base/memory.h>
#include <torchkeep/base/per_process.h>

namespace torchkeep::posix {
namespace {

// Eight writes of 1 MiB under way keep a virtual disk busy; a block stays in the L2 cache between CRC and copy.
constexpr std::size_t kBlock = std::size_t{1} << 20;
constexpr std::size_t kBlocks = 8;
constexpr std::size_t kAlignment = 4096;  // what no disk and no file system asks more than
constexpr std::size_t kRingBytes = kBlock * kBlocks;

/// Memory in large pages, touched. A forked child does not get it: the kernel may still be reading it for the parent.
std::byte* map_ring() noexcept {
  void* const raw = ::mmap(nullptr, kRingBytes + kHugePage, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (raw == MAP_FAILED) return nullptr;
  auto* const begin = static_cast<std::byte*>(raw);
  const std::size_t before = (kHugePage - reinterpret_cast<std::uintptr_t>(raw) % kHugePage) % kHugePage;
  if (before > 0) ::munmap(begin, before);
  ::munmap(begin + before + kRingBytes, kHugePage - before);
  std::byte* const memory = begin + before;
  prefer_huge_pages({memory, kRingBytes});
  ::madvise(memory, kRingBytes, MADV_DONTFORK);
  for (std::size_t i = 0; i < kRingBytes; i += kAlignment) memory[i] = std::byte{0};
  return memory;
}

/// The kernel's queue and the memory of its writes.
class Ring final {
 public:
  /// Null where the system refuses.
  static std::unique_ptr<Ring> make() noexcept {
    std::unique_ptr<Ring> ring(new (std::nothrow) Ring);
    return ring != nullptr && ring->set_up() ? std::move(ring) : nullptr;
  }
  Ring(const Ring&) = delete;
  Ring& operator=(const Ring&) = delete;
  ~Ring() {
    if (is_open_) ::io_uring_queue_exit(&ring_);
    if (memory_ != nullptr) ::munmap(memory_, kRingBytes);
  }

  MutableBytes memory(std::size_t block) noexcept { return {memory_ + block * kBlock, kBlock}; }

  /// 0 or errno.
  int start(int fd, std::size_t block, std::size_t size, std::uint64_t offset) noexcept {
    io_uring_sqe* const entry = ::io_uring_get_sqe(&ring_);
    if (entry == nullptr) return EBUSY;
    const auto count = static_cast<unsigned>(size);
    if (is_registered_)
      ::io_uring_prep_write_fixed(entry, fd, memory(block).data(), count, offset, static_cast<int>(block));
    else
      ::io_uring_prep_write(entry, fd, memory(block).data(), count, offset);
    ::io_uring_sqe_set_data64(entry, block);
    int submitted = ::io_uring_submit(&ring_);
    while (submitted == -EINTR) submitted = ::io_uring_submit(&ring_);
    return submitted == 1 ? 0 : submitted < 0 ? -submitted : EBUSY;
  }

  BlockQueue::Done wait() noexcept {
    io_uring_cqe* done = nullptr;
    while (::io_uring_wait_cqe(&ring_, &done) != 0) {
    }
    const int result = done->res;
    const auto block = static_cast<std::size_t>(::io_uring_cqe_get_data64(done));
    ::io_uring_cqe_seen(&ring_, done);
    return {block, result > 0 ? static_cast<std::uint64_t>(result) : 0, result < 0 ? -result : 0};
  }

 private:
  Ring() = default;

  bool set_up() noexcept {
    memory_ = map_ring();
    if (memory_ == nullptr) return false;
    is_open_ = ::io_uring_queue_init(kBlocks, &ring_, 0) == 0;
    if (!is_open_) return false;
    // Registered buffers count against ulimit -l; without them each write pins its pages anew.
    std::array<iovec, kBlocks> blocks{};
    for (std::size_t i = 0; i < kBlocks; ++i) blocks[i] = {memory(i).data(), kBlock};
    is_registered_ = ::io_uring_register_buffers(&ring_, blocks.data(), kBlocks) == 0;
    return true;
  }

  io_uring ring_{};
  std::byte* memory_ = nullptr;
  bool is_open_ = false;
  bool is_registered_ = false;
};

/// The ring that waits for its next file. A forked child has one of its own: not even the memory of its parent's is
/// mapped there.
class Spare final {
 public:
  std::unique_ptr<Ring> take() noexcept {
    const std::lock_guard lock(mutex_);
    return ring_ != nullptr ? std::move(ring_) : Ring::make();
  }
  void give(std::unique_ptr<Ring> ring) noexcept {
    const std::lock_guard lock(mutex_);
    if (ring_ == nullptr) ring_ = std::move(ring);
  }

 private:
  std::mutex mutex_;
  std::unique_ptr<Ring> ring_;
};

Spare& spare() {
  return per_process<Spare>();
}

class UringQueue final : public BlockQueue {
 public:
  UringQueue(Descriptor file, std::unique_ptr<Ring> ring) noexcept : file_(std::move(file)), ring_(std::move(ring)) {}
  ~UringQueue() override {
    if (owner_ != ::getpid()) {  // of a forked child: all of it is its parent's, what is under way too
      static_cast<void>(ring_.release());
      return;
    }
    while (under_way_ > 0) wait();
    if (refused_ == 0) spare().give(std::move(ring_));
  }

  std::size_t alignment() const noexcept override { return kAlignment; }
  std::size_t count() const noexcept override { return kBlocks; }
  MutableBytes memory(std::size_t block) noexcept override { return ring_->memory(block); }

  void start(std::size_t block, std::size_t size, std::uint64_t offset) noexcept override {
    const int error = refused_ != 0 ? refused_ : ring_->start(file_.get(), block, size, offset);
    if (error != 0) {
      failed_[failures_++] = {block, 0, error};
      refused_ = error;
    }
    ++under_way_;
  }

  Done wait() noexcept override {
    --under_way_;
    return failures_ > 0 ? failed_[--failures_] : ring_->wait();
  }

  int set_length(std::uint64_t size) noexcept override {
    return retry([&] { return ::ftruncate(file_.get(), static_cast<off_t>(size)); }) == 0 ? 0 : errno;
  }

 private:
  const pid_t owner_ = ::getpid();
  Descriptor file_;
  std::unique_ptr<Ring> ring_;
  std::size_t under_way_ = 0;
  std::array<Done, kBlocks> failed_{};  // writes that could not even be started
  std::size_t failures_ = 0;
  int refused_ = 0;  // an entry that could not be submitted stays in the queue: nothing more goes in
};

}  // namespace

std::unique_ptr<BlockQueue> make_uring_queue(Descriptor direct_file) noexcept {
  std::unique_ptr<Ring> ring = spare().take();
  if (ring == nullptr) return nullptr;
  return std::unique_ptr<BlockQueue>(new (std::nothrow) UringQueue(std::move(direct_file), std::move(ring)));
}

}  // namespace torchkeep::posix

#else

namespace torchkeep::posix {

std::unique_ptr<BlockQueue> make_uring_queue(Descriptor) noexcept {
  return nullptr;
}

}  // namespace torchkeep::posix
#endif
