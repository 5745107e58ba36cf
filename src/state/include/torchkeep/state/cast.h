// SPDX-License-Identifier: BSD-3-Clause
// Tensors of another dtype, converted while they are read.
#pragma once

#include <torchkeep/state/tensor.h>

namespace torchkeep {

/// Whether cast() converts elements of `from` to `to`: from any floating-point dtype but float4_e2m1fn_x2 to float64,
/// float32, float16, bfloat16, float8_e5m2 and float8_e4m3fn, from complex32 to complex64 and complex128 and from
/// complex64 to complex128; and from a dtype to itself.
bool can_cast(DType from, DType to) noexcept;

/// `tensor` with its elements converted to `dtype`, contiguous in row-major order, flags kept. Nothing is computed
/// until the result's storage is read, and no more than what is read. Values are rounded as PyTorch's Tensor.to()
/// rounds them: to nearest, ties to even; beyond the range of the dtype to infinity, and in float8_e4m3fn, which has
/// none, to its largest number (as PyTorch since 2.13; infinity, too). Into a narrower dtype than float32 float64 is
/// rounded twice, by way of float32, as PyTorch does. Throws Error (unsupported) where can_cast() says no, and what
/// Elements throws.
Tensor cast(const Tensor& tensor, DType dtype);

}  // namespace torchkeep
