// SPDX-License-Identifier: BSD-3-Clause
// Reading tensor leaves into LibTorch memory.
#pragma once

#include <map>

#include <ATen/core/Tensor.h>

#include <torchkeep/state/value.h>

namespace torchkeep {

/// A CPU tensor over the leaf's own bytes where they lie in memory, else over a copy of the part it needs. For reading
/// only: writing would change the Value. Keeps the bytes alive.
at::Tensor borrow(const Tensor& leaf);

/// The leaf of a live tensor without its requires_grad flag, as state dicts hold it.
Tensor detached_leaf(const at::Tensor& tensor);

/// "(3, 4)".
std::string shape_text(c10::IntArrayRef sizes);

}  // namespace torchkeep
