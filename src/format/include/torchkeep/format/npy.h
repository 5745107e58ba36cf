// SPDX-License-Identifier: BSD-3-Clause
// NumPy's .npy: one tensor as a file that numpy.load opens.
#pragma once

#include <torchkeep/format/plan.h>
#include <torchkeep/state/tensor.h>

namespace torchkeep {

struct NpyOptions {
  /// What becomes of a dtype NumPy does not have (bfloat16, the float8 kinds, complex32, quantized ...). False: the
  /// next wider dtype that holds every value exactly, float32 or complex64 (quantized tensors: their stored integers).
  /// True: the bits, as unsigned integers of the same size.
  bool raw_bits = false;
};

/// The dtype of the file's array: the tensor's own where NumPy has it.
DType npy_dtype(DType dtype, const NpyOptions& options = {});

/// The layout of a .npy file, version 1.0, in row-major order, aligned to 64 bytes as NumPy writes it.
/// Throws Error (unsupported) for a lazily conjugated tensor, and what Elements throws.
Plan plan_npy(const Tensor& tensor, const NpyOptions& options = {});

}  // namespace torchkeep
