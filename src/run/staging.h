// SPDX-License-Identifier: BSD-3-Clause
// Memory for what a save copies aside: blocks of one size, kept from save to save, up to a limit.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include <torchkeep/base/memory.h>

namespace torchkeep {

/// One thread at a time.
class Staging final {
 public:
  static constexpr std::size_t kBlock = kHugePage;

  /// Never holds more than `limit` bytes.
  explicit Staging(std::uint64_t limit) : limit_(limit) {}

  /// A block of kBlock bytes; null when that would be more than the limit, or than the system gives.
  std::byte* take();
  void give(std::byte* block);
  /// Gives back to the system what neither of the last two saves needed. To be called between saves.
  void trim();
  std::uint64_t limit() const noexcept { return limit_; }
  /// Bytes it has from the system.
  std::uint64_t held() const noexcept { return slabs_.size() * kSlabBlocks * kBlock; }

 private:
  static constexpr std::size_t kSlabBlocks = 8;
  struct Free {
    void operator()(std::byte* memory) const noexcept;
  };
  struct Slab {
    std::unique_ptr<std::byte, Free> memory;
    std::vector<std::byte*> free;
  };
  bool grow();

  std::uint64_t limit_;
  std::vector<Slab> slabs_;
  std::size_t used_ = 0;              ///< blocks that are out
  std::size_t most_used_ = 0;         ///< at once, in this save
  std::size_t most_used_before_ = 0;  ///< in the one before
};

}  // namespace torchkeep
