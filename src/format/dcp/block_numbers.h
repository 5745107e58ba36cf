// SPDX-License-Identifier: BSD-3-Clause
// Which numbers of a file's table of block CRCs are those of a chunk.
#pragma once

#include <cstdint>
#include <unordered_map>

#include <torchkeep/format/chunks.h>
#include <torchkeep/format/plan.h>

namespace torchkeep {

/// Numbers are given to the chunks of a file in their order: one a MiB, to those of more than one MiB. Chunks of two
/// names that are the same bytes share theirs.
class BlockNumbers {
 public:
  /// The first number of the next chunk; BlockCrcs::kNone when it has none.
  std::uint64_t add(std::uint64_t offset, std::uint64_t nbytes) {
    if (nbytes <= BlockCrcs::kBlock) return BlockCrcs::kNone;
    const auto [known, is_new] = first_.emplace(offset, count_);
    if (is_new) count_ += (nbytes + BlockCrcs::kBlock - 1) / BlockCrcs::kBlock;
    return known->second;
  }
  /// So far.
  std::uint64_t count() const noexcept { return count_; }

 private:
  std::unordered_map<std::uint64_t, std::uint64_t> first_;  // by offset
  std::uint64_t count_ = 0;
};

/// Bytes of the chunk that the cursor stands at.
inline std::uint64_t chunk_bytes(const TensorTable& tensors, const ChunkCursor& at) noexcept {
  return static_cast<std::uint64_t>(*element_count(at.box().size)) * itemsize(tensors.dtype(at.tensor()));
}

}  // namespace torchkeep
