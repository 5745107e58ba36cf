// SPDX-License-Identifier: BSD-3-Clause
// A File that copies what is written into a ring of aligned blocks and writes those past the page cache, several at a
// time, while the next ones are being filled:
//
//   write_at, in order        block 0 | block 1 | block 2 | ...         full blocks: BlockQueue (direct, asynchronous)
//   anything else, the tail   ------------------------------------>     a plain File of the same file (page cache)
//
// Memory is fresh only once per process: the ring is reused. No block is written by both ways.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

#include <torchkeep/files/fs.h>

namespace torchkeep {

/// Aligned blocks of memory and a way to write them that does not wait. One thread at a time.
class BlockQueue {
 public:
  /// What became of a write: the bytes written from the block's beginning on, or an errno.
  struct Done {
    std::size_t block = 0;
    std::uint64_t written = 0;
    int error = 0;
  };
  virtual ~BlockQueue() = default;  ///< waits for what is under way
  /// Offsets and sizes of writes are multiples of this; blocks are too.
  virtual std::size_t alignment() const noexcept = 0;
  virtual std::size_t count() const noexcept = 0;
  virtual MutableBytes memory(std::size_t block) noexcept = 0;
  /// Begins to write the first `size` bytes of a block at `offset` of the file. Its memory must not change until wait()
  /// returned it.
  virtual void start(std::size_t block, std::size_t size, std::uint64_t offset) noexcept = 0;
  /// Waits until a write that was started is done.
  virtual Done wait() noexcept = 0;
  /// Sets the file's length. 0 or errno.
  virtual int set_length(std::uint64_t size) noexcept = 0;
};

/// `plain` writes the same file; bytes beyond `size_limit` are left to it (it refuses them).
std::unique_ptr<File> make_ring_file(std::unique_ptr<File> plain, std::unique_ptr<BlockQueue> queue,
                                     std::uint64_t size_limit);

}  // namespace torchkeep
