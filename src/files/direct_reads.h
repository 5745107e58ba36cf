// SPDX-License-Identifier: BSD-3-Clause
// Reading past the page cache what is not in it: no fresh memory is needed for pages that nobody wants a second time.
#pragma once

#include <cstdint>
#include <mutex>

#include <torchkeep/base/bytes.h>

#include "posix.h"

namespace torchkeep::posix {

/// The way past the page cache of one open file. Safe to use from several threads.
class DirectReads final {
 public:
  /// `file` must outlive it.
  explicit DirectReads(const Descriptor& file) noexcept : file_(file) {}

  /// True when the system says that most of these bytes are not in its page cache, on a disk of this machine. (Of a
  /// file on a network every process of a machine would fetch its own copy.) False where it cannot tell.
  bool is_cold(std::uint64_t offset, std::uint64_t size) const noexcept;
  /// Fills `out` from `offset`. False where the system refuses; then `out` may hold anything.
  bool read(std::uint64_t offset, MutableBytes out) const noexcept;
  /// The same bytes where they were read to, until this thread's next call; empty where the system refuses, or when
  /// they are more than are read at once.
  Bytes look_at(std::uint64_t offset, std::size_t size) const noexcept;

 private:
  int direct() const noexcept;
  Bytes read_piece(std::uint64_t offset, std::size_t size) const noexcept;

  const Descriptor& file_;
  mutable std::once_flag opened_;
  mutable Descriptor direct_;
};

}  // namespace torchkeep::posix
