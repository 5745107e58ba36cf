// SPDX-License-Identifier: BSD-3-Clause
// The bytes of a chunk, MiB by MiB, each checked where that can be done.
#pragma once

#include <cstdint>
#include <vector>

#include "folder.h"

namespace torchkeep::dcp {

/// Reads ranges of a chunk that ascend and do not overlap. Of a folder with a manifest, the MiBs that they touch are
/// read once each and checked; of others, all are read and the chunk's CRC-32 is checked at the end.
class ChunkBlocks {
 public:
  ChunkBlocks(const OpenFolder& opened, const MetaEntry& entry, std::size_t chunk);

  /// Fills `out` with the bytes from `begin` on. What fills whole MiBs is read into place.
  void read(std::uint64_t begin, MutableBytes out);
  /// Call it last. Throws Error (corrupt) when the chunk's bytes are not those that were saved.
  void finish();

 private:
  void fetch(std::uint64_t block, MutableBytes out);
  void pass_over(std::uint64_t end);
  void check(std::uint64_t block, Bytes bytes) const;
  std::uint64_t size_of(std::uint64_t block) const noexcept;

  const OpenFolder& opened_;
  const MetaEntry& entry_;
  std::size_t chunk_;
  std::uint64_t nbytes_;
  ChunkBytes bytes_;
  bool has_blocks_;                     // each can be checked by itself
  bool reads_all_;                      // for the one CRC that there is
  std::shared_ptr<const ReadAt> file_;  // null where the chunk is in memory
  std::uint64_t next_ = 0;              // the first block that was not read yet, where all are
  std::uint32_t crc_ = 0;               // of those before it
  std::vector<std::byte> buffer_;       // block buffered_
  std::uint64_t buffered_ = ~std::uint64_t{0};
};

}  // namespace torchkeep::dcp
