// SPDX-License-Identifier: BSD-3-Clause
// Two tensors compared block by block, for callers that share out the blocks themselves. Private to the state layer.
#pragma once

#include <torchkeep/state/compare.h>
#include <torchkeep/state/elements.h>

namespace torchkeep {

class TensorPair {
 public:
  /// What one block adds to the comparison.
  struct Partial {
    std::uint64_t differing = 0, nan = 0, ulps = 0;
    double absolute = 0, relative = 0;
    double product = 0, squares_a = 0, squares_b = 0;
    /// Joins the block that follows.
    void join(const Partial& other) noexcept;
  };

  /// The tensors must outlive the pair. Throws Error (mismatch, unsupported) as compare() does.
  TensorPair(const Tensor& a, const Tensor& b);
  /// Whether the constructor would accept the shapes and dtypes.
  static bool comparable(const Tensor& a, const Tensor& b) noexcept;

  std::uint64_t blocks() const noexcept;
  /// Bytes read for all blocks, on one side.
  std::uint64_t nbytes() const noexcept { return elements_a_.nbytes(); }
  /// Equal dtypes and flags: elements are compared as bits, otherwise as values.
  bool by_bits() const noexcept;
  /// Whether the bits of a block are equal; only where by_bits().
  bool equal_block(std::uint64_t number) const;
  Partial compare_block(std::uint64_t number) const;
  /// The sum of all blocks, joined in order.
  TensorDifference result(const Partial& all) const;

 private:
  std::uint64_t block() const noexcept;

  const Tensor* a_;
  const Tensor* b_;
  Elements elements_a_;
  Elements elements_b_;
};

}  // namespace torchkeep
