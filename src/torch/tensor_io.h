// SPDX-License-Identifier: BSD-3-Clause
// What the files of this layer share: reading tensor leaves into LibTorch memory, shapes and names in messages.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include <ATen/core/Tensor.h>

#include <torchkeep/format/live_reader.h>
#include <torchkeep/state/value.h>

namespace torchkeep {

/// A CPU tensor over the leaf's own bytes where they lie in memory, else over a copy of the part it needs. For reading
/// only: writing would change the Value. Keeps the bytes alive.
at::Tensor borrow(const Tensor& leaf);

/// Adds the pair to the reader where the leaf's bytes are still in a file (or on a device), lie as the CPU tensor's do,
/// and nothing but a copy is needed. False otherwise.
bool read_in_place(const Tensor& leaf, const at::Tensor& tensor, LiveReader& reader);

/// The leaf of a live tensor without its requires_grad flag, as state dicts hold it.
Tensor detached_leaf(const at::Tensor& tensor);
/// The same over WatchedStorage: of what changes in optimizer steps. `trained`: in every one of them.
Tensor counted_leaf(const at::Tensor& tensor, bool trained);

/// "(3, 4)".
std::string shape_text(c10::IntArrayRef sizes);

/// The name without a prefix, if it begins with it.
std::string without_prefix(const std::string& name, const std::string& prefix);

/// What the user should set when all names in the file are `names` behind a wrapper's prefix; else empty.
std::string prefix_hint(const std::vector<std::string>& names,
                        const std::function<bool(const std::string&)>& is_in_file);

}  // namespace torchkeep
