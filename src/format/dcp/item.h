// SPDX-License-Identifier: BSD-3-Clause
// One item of a data file: a complete file of torch.save in a range of it.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include <torchkeep/format/pt.h>

#include "files.h"
#include "metadata.h"

namespace torchkeep::dcp {

/// The chunk in memory that was wanted last: whoever reads a tensor part by part wants it again.
class LastChunk {
 public:
  std::shared_ptr<const std::string> find(const void* tensor, std::size_t chunk) const {
    const std::lock_guard lock(mutex_);
    return tensor == tensor_ && chunk == chunk_ ? memory_ : nullptr;
  }
  void set(const void* tensor, std::size_t chunk, std::shared_ptr<const std::string> memory) {
    const std::lock_guard lock(mutex_);
    tensor_ = tensor, chunk_ = chunk, memory_ = std::move(memory);
  }
  /// Forgets it if it is a chunk of this tensor.
  void forget(const void* tensor) {
    const std::lock_guard lock(mutex_);
    if (tensor == tensor_) tensor_ = nullptr, memory_ = nullptr;
  }

 private:
  mutable std::mutex mutex_;
  const void* tensor_ = nullptr;
  std::size_t chunk_ = 0;
  std::shared_ptr<const std::string> memory_;
};

/// What all items of a folder are read with.
struct ItemSource {
  std::shared_ptr<const DataFiles> files;
  std::vector<std::string> transforms;
  PtReadOptions options;
  mutable LastChunk last;
};

/// The bytes of a chunk's elements in row-major order.
struct ChunkBytes {
  std::uint64_t begin = 0;                    ///< in the data file, where they lie there in this order
  std::uint32_t crc = 0;                      ///< of all of them; 0: none was computed
  std::shared_ptr<const std::string> memory;  ///< verified, where they do not (strided, big-endian, deflated)
};

/// The object in a byte item, all of it in memory. Throws Error naming the file, the item and `fqn`.
Value read_value(const ItemSource& source, const ItemPlace& place, const std::string& fqn);

/// Finds the elements of chunk `i` of a tensor: where a manifest says, or as find_in_item() does.
ChunkBytes find_chunk(const ItemSource& source, const MetaEntry& entry, std::size_t i, const ItemPlace& place);

/// Finds them in the item at `place`, and checks that it is a tensor of the dtype and shape that .metadata promises.
/// Throws Error as read_value() does.
ChunkBytes find_in_item(const ItemSource& source, const MetaEntry& entry, std::size_t i, const ItemPlace& place);

/// The open data file of an item. Throws Error that names the file and `fqn`.
std::shared_ptr<const ReadAt> open_data(const ItemSource& source, const ItemPlace& place, const std::string& fqn);

/// Throws Error (corrupt) unless `crc` is the one of the chunk's bytes, or that was not computed.
void check_crc(const ItemSource& source, const MetaEntry& entry, std::size_t i, const ChunkBytes& bytes,
               std::uint32_t crc);

/// `error` with the file, the item and the name it is about.
Error at_item(const Error& error, const ItemSource& source, const ItemPlace& place, const std::string& fqn);

}  // namespace torchkeep::dcp
