// SPDX-License-Identifier: BSD-3-Clause
// A tensor in chunks as one storage, which puts the bytes together while they are read.
#pragma once

#include <memory>
#include <mutex>
#include <optional>
#include <vector>

#include <torchkeep/state/storage.h>

#include "item.h"
#include "runs.h"

namespace torchkeep::dcp {

/// Row-major bytes of a whole tensor. reader() and a read() of everything take each chunk's bytes once and check their
/// CRC on the way; the first read() of a part of a chunk reads all of it to check it. Memory: a block, and in a chunk
/// that is not row-major in its file (channels_last, transposed) the chunk.
class ChunkedStorage final : public Storage {
 public:
  /// The chunks of `entry` cover it exactly once, and each that is not empty has a place inside its file.
  ChunkedStorage(std::shared_ptr<const ItemSource> source, MetaEntry entry);
  ~ChunkedStorage() override;

  std::uint64_t nbytes() const noexcept override { return nbytes_; }
  void read(std::uint64_t offset, MutableBytes out) const override;
  std::unique_ptr<StorageReader> reader() const override;

 private:
  friend class ChunkReader;
  struct Known {
    std::optional<ChunkBytes> bytes;  // but not those in memory
    bool verified = false;
  };

  ChunkBytes find(std::size_t i) const;
  void set_verified(std::size_t i) const;
  void verify(std::size_t i, const ChunkBytes& bytes) const;
  void copy(std::size_t i, const ChunkBytes& bytes, std::uint64_t first, MutableBytes out, std::uint32_t* crc) const;
  void read_all(MutableBytes out) const;

  std::shared_ptr<const ItemSource> source_;
  MetaEntry entry_;
  std::vector<std::size_t> chunks_;  // that are not empty, by their first byte in the tensor
  std::vector<Runs> runs_;           // of each of them
  std::uint64_t nbytes_;
  mutable std::mutex mutex_;
  mutable std::vector<Known> known_;  // of each of chunks_
};

}  // namespace torchkeep::dcp
