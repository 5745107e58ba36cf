// SPDX-License-Identifier: BSD-3-Clause
// Tables of tensors and of the chunks that ranks hold of them: millions of rows, a few columns each.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <torchkeep/shard/box.h>
#include <torchkeep/state/dtype.h>

namespace torchkeep {

/// Names one behind the other in one piece of memory.
class NameTable {
 public:
  void add(std::string_view name) {
    bytes_ += name;
    ends_.push_back(bytes_.size());
  }
  std::size_t size() const noexcept { return ends_.size(); }
  std::string_view operator[](std::size_t i) const noexcept {
    const std::size_t begin = i == 0 ? 0 : static_cast<std::size_t>(ends_[i - 1]);
    return std::string_view(bytes_).substr(begin, static_cast<std::size_t>(ends_[i]) - begin);
  }
  bool operator==(const NameTable&) const = default;

 private:
  std::string bytes_;
  std::vector<std::uint64_t> ends_;
};

/// Tensors by their flattened names ("model.fc.weight"), with the sizes of the whole ones.
class TensorTable {
 public:
  void add(std::string_view name, DType dtype, ShapeView shape);
  std::size_t size() const noexcept { return dtypes_.size(); }
  std::string_view name(std::size_t i) const noexcept { return names_[i]; }
  DType dtype(std::size_t i) const noexcept { return dtypes_[i]; }
  ShapeView shape(std::size_t i) const noexcept {
    const std::size_t begin = i == 0 ? 0 : static_cast<std::size_t>(ends_[i - 1]);
    return ShapeView(sizes_).subspan(begin, static_cast<std::size_t>(ends_[i]) - begin);
  }
  std::size_t dims(std::size_t i) const noexcept { return shape(i).size(); }
  /// Those of all tensors, one behind the other.
  const std::vector<std::int64_t>& sizes() const noexcept { return sizes_; }
  bool operator==(const TensorTable&) const = default;

 private:
  NameTable names_;
  std::vector<DType> dtypes_;
  std::vector<std::int64_t> sizes_;
  std::vector<std::uint64_t> ends_;  // in sizes_
};

/// Chunks of tensors of a TensorTable and where their bytes lie: each inside an item of torch.distributed.checkpoint,
/// which is a zip, and row-major.
struct ChunkTable {
  std::vector<std::uint32_t> tensor;  ///< index into the TensorTable
  std::vector<std::int64_t> boxes;    ///< offset, then size in each dimension of its tensor, chunk behind chunk
  std::vector<std::uint64_t> offset;  ///< of the chunk's bytes in its file
  std::vector<std::uint32_t> crc;     ///< CRC-32 of the chunk's bytes
  std::vector<std::uint32_t> before;  ///< bytes of the item before the chunk's
  std::vector<std::uint32_t> behind;  ///< and behind them

  std::size_t size() const noexcept { return tensor.size(); }
};

/// Walks along a ChunkTable, for the boxes of tensors with different numbers of dimensions.
class ChunkCursor {
 public:
  ChunkCursor(const TensorTable& tensors, const std::vector<std::uint32_t>& tensor,
              const std::vector<std::int64_t>& boxes)
      : tensors_(tensors), tensor_(tensor), boxes_(boxes) {}
  bool at_end() const noexcept { return chunk_ == tensor_.size(); }
  std::size_t chunk() const noexcept { return chunk_; }
  std::size_t tensor() const noexcept { return tensor_[chunk_]; }
  /// Where the box of the chunk begins among the numbers of all.
  std::size_t position() const noexcept { return position_; }
  BoxView box() const noexcept {
    const std::size_t dims = tensors_.dims(tensor());
    const ShapeView numbers = ShapeView(boxes_).subspan(position_, 2 * dims);
    return {numbers.first(dims), numbers.last(dims)};
  }
  void next() noexcept {
    position_ += 2 * tensors_.dims(tensor());
    ++chunk_;
  }

 private:
  const TensorTable& tensors_;
  const std::vector<std::uint32_t>& tensor_;
  const std::vector<std::int64_t>& boxes_;
  std::size_t chunk_ = 0;
  std::size_t position_ = 0;
};

}  // namespace torchkeep
