// SPDX-License-Identifier: BSD-3-Clause
// The elements of a tensor in row-major order, whatever its strides, a range at a time and in bounded memory.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include <torchkeep/base/bytes.h>
#include <torchkeep/state/tensor.h>

namespace torchkeep {

/// Reads ranges of a tensor's elements. Keeps the storage alive. Safe to use from several threads at once.
class Elements {
 public:
  /// Throws Error (corrupt) for a tensor that leaves its storage (Tensor::validate), and (refused) for a view that
  /// repeats its storage so often that a small file would cost hours: more than 1 GiB and 64 times the storage.
  explicit Elements(const Tensor& tensor);

  /// Number of elements; 0 of a meta tensor, which has none.
  std::uint64_t count() const noexcept { return count_; }
  /// Bytes per element.
  std::size_t item() const noexcept { return item_; }
  /// count() * item().
  std::uint64_t nbytes() const noexcept { return count_ * item_; }
  /// Fills `out`, a whole number of elements, with the elements from number `first` on, little-endian. Conj and neg
  /// bits are not applied. Throws Error (invalid_argument) past the end, and what Storage::read throws.
  void read(std::uint64_t first, MutableBytes out) const;
  /// All elements where they lie, when they lie in memory in row-major order; else nullptr.
  const std::byte* in_place() const noexcept { return dimensions_.empty() ? memory_.data() : nullptr; }
  /// How many elements to ask for at once: about 1 MiB of them, or 32 MiB where they must be gathered from a file.
  std::uint64_t block() const noexcept;

 private:
  // A run of equal steps: `size` elements `stride` apart in the storage and `step` apart in row-major order.
  struct Dimension {
    std::uint64_t size;
    std::uint64_t stride;
    std::uint64_t step;
  };
  // A rectangular part of the index space: sizes per dimension, and where its first element lies.
  struct Box {
    std::vector<std::uint64_t> sizes;
    std::uint64_t position;  // in the storage, in elements
    std::uint64_t number;    // in row-major order
  };

  Box box_at(std::uint64_t first, std::uint64_t limit) const;
  std::uint64_t span(const Box& box) const noexcept;
  void split(Box& box, std::vector<Box>& pending) const;
  void gather(const Box& box, const std::byte* from, std::byte* out) const;
  void read_box(Box box, std::uint64_t first, MutableBytes out) const;

  StoragePtr storage_;
  std::size_t item_;
  std::uint64_t count_;
  std::uint64_t offset_;               // of the first element, in elements
  std::vector<Dimension> dimensions_;  // merged where that is possible, sizes of 2 at least, outermost first
  Bytes memory_;                       // from the first element to the last, where they lie in memory
};

/// The elements of `tensor` in row-major order as a storage of their own, read on demand: the tensor's storage itself
/// where the tensor covers all of it in order. Throws what Elements throws.
StoragePtr contiguous_storage(const Tensor& tensor);

}  // namespace torchkeep
