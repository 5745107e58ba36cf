// SPDX-License-Identifier: BSD-3-Clause
// Finds the chunks of a tensor in a table that is ordered by files.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include <torchkeep/format/chunks.h>

namespace torchkeep {

/// Chunks by tensor: 12 bytes a chunk beside the table, which must outlive it and not change.
class ChunkIndex {
 public:
  ChunkIndex(const TensorTable& tensors, const ChunkTable& chunks);

  /// The chunks of a tensor, in the order of the table.
  std::span<const std::uint32_t> chunks(std::size_t tensor) const noexcept {
    return std::span(order_).subspan(first_[tensor], first_[tensor + 1] - first_[tensor]);
  }
  BoxView box(std::uint32_t chunk) const noexcept;
  /// Those of chunks().
  BoxList boxes(std::size_t tensor) const;

 private:
  const TensorTable& tensors_;
  const ChunkTable& chunks_;
  std::vector<std::size_t> first_;       // by tensor, in order_; and the end
  std::vector<std::uint32_t> order_;     // chunks, tensor by tensor
  std::vector<std::uint64_t> position_;  // by chunk: where its box begins
};

/// Finds the chunk of one tensor that is just a box.
class BoxIndex {
 public:
  BoxIndex(const ChunkIndex& index, std::size_t tensor);
  std::optional<std::uint32_t> find(BoxView box) const;

 private:
  static bool is_before(BoxView a, BoxView b) noexcept;

  const ChunkIndex& index_;
  std::vector<std::uint32_t> order_;  // by box
};

}  // namespace torchkeep
