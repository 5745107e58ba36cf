// SPDX-License-Identifier: BSD-3-Clause
// How far two tensors of one shape are apart, in numbers.
#pragma once

#include <cstdint>
#include <optional>

#include <torchkeep/state/tensor.h>

namespace torchkeep {

/// What a comparison of the elements found. "Differing" means other bits (after decoding, where the dtypes differ);
/// the distances are over pairs of which neither is NaN. Complex numbers are one number each: their absolute difference
/// is |a - b|, their ULPs the larger of the two parts'.
struct TensorDifference {
  std::uint64_t count = 0;                ///< numbers compared
  std::uint64_t differing = 0;            ///< of them, pairs whose bits differ
  std::uint64_t nan = 0;                  ///< of the differing ones, pairs with a NaN on one side or both
  double max_absolute = 0;                ///< largest |a - b|
  double max_relative = 0;                ///< largest |a - b| / max(|a|, |b|)
  std::optional<std::uint64_t> max_ulps;  ///< most representable values between a and b, +1; only for equal dtypes
  double cosine = 1;                      ///< a.b / (|a| |b|) over finite pairs; NaN when one side is all zeros

  bool equal_bits() const noexcept { return differing == 0; }
};

struct CompareOptions {
  unsigned threads = 0;  ///< 0: one per core. The result does not depend on it
};

/// True when the elements of two tensors of one dtype and shape have equal bits, whatever the strides; stops early.
bool equal_elements(const Tensor& a, const Tensor& b, const CompareOptions& options = {});

/// Compares the elements in pairs, in row-major order and bounded memory. The dtypes may differ (then by value).
/// Throws Error (mismatch) for different shapes, (unsupported) for complex against real, and what Elements throws.
TensorDifference compare(const Tensor& a, const Tensor& b, const CompareOptions& options = {});

}  // namespace torchkeep
