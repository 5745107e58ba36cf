// SPDX-License-Identifier: BSD-3-Clause
// Reads parts of tensors out of a folder that ranks wrote: only the bytes that are wanted, into memory of the caller's.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>

#include <torchkeep/format/dcp.h>
#include <torchkeep/shard/box.h>
#include <torchkeep/state/value.h>

namespace torchkeep {

/// A part of a tensor, and where it is wanted.
struct BoxRequest {
  std::string name;  ///< the tensor's flattened name: "model.fc.weight"
  Box box;           ///< of the whole tensor
  Tensor target;     ///< of box.size and the tensor's dtype, in memory that may be overwritten; any strides
};

/// A folder of torch.distributed.checkpoint (torchkeep/format/dcp.h), opened for those who want parts of its tensors.
/// Memory: its index, and a MiB a thread.
class ShardReader {
 public:
  /// Reads and checks the index, as open_dcp() does; `folder.open` is kept.
  explicit ShardReader(const Folder& folder, const PtReadOptions& options = {});
  ~ShardReader();
  ShardReader(ShardReader&&) noexcept;
  ShardReader& operator=(ShardReader&&) noexcept;

  /// The state, with tensors of the device meta in place of those that read() reads.
  const Value& structure() const noexcept;
  /// The same of what one rank alone had; None when it had nothing, and in folders without a manifest.
  Value own(std::uint32_t rank) const;
  /// The number of ranks that saved, and the id of the save; nothing in folders without a manifest.
  std::optional<std::uint32_t> world() const noexcept;
  std::optional<std::string> save() const;

  struct Found {
    DType dtype = DType::float32;
    Shape shape;
  };
  /// The tensor of a flattened name.
  std::optional<Found> find(const std::string& name) const;

  /// Fills the targets, by at most `threads` threads (0: one per core). In a folder with a manifest every MiB that is
  /// read is checked, and at most two that are not wanted whole are read for each run of bytes that is; in others a
  /// chunk that is wanted in part is read whole, for its one CRC-32 (only what is wanted when `verify` is off).
  /// Throws Error (mismatch) that lists every request that does not fit, before anything changes; then what reading
  /// throws, naming file, tensor and rank: the targets may hold anything after that. Targets must not overlap.
  void read(std::span<const BoxRequest> requests, unsigned threads = 0) const;

 private:
  class Impl;
  std::unique_ptr<const Impl> impl_;
};

}  // namespace torchkeep
