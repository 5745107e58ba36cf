// SPDX-License-Identifier: BSD-3-Clause
// A nested state as flat names, by torch.distributed.checkpoint's rules, and back.
#pragma once

#include <functional>
#include <string>

#include <torchkeep/state/value.h>

#include "metadata.h"

namespace torchkeep::dcp {

/// A tensor that is cut into chunks, or a value that is kept whole.
struct Leaf {
  std::string fqn;  ///< all steps of the path, joined by dots
  Path path;
  Value value;
  bool is_tensor = false;
};

/// Which tensors are leaves that are cut into chunks.
enum class Tensors : std::uint8_t {
  plain,  ///< those whose elements are plain numbers
  meta,   ///< those of the device meta: of a structure, in which they stand for the others
};

/// Hands every leaf of `root` to `change`, in order, under names that begin with `prefix`, and returns a copy of `root`
/// with what `change` returns in their places; what is shared in `root` is shared in the copy, and a leaf that stands
/// in several places is handed over for each (the copy has what the first call returned). Dicts with keys that are str
/// or int are descended into, and lists that hold a tensor or a dict; all else is a leaf. Throws Error with the key
/// path: unsupported for tensors without bytes (`plain`), for what contains itself and for more than 500 levels; what
/// `change` throws.
Value flatten(const Value& root, const Path& prefix, Tensors tensors, const std::function<Value(const Leaf&)>& change);

}  // namespace torchkeep::dcp
