// SPDX-License-Identifier: BSD-3-Clause
// A changed copy of a Value: parts replaced, left out or renamed, everything else shared with the original.
#pragma once

#include <functional>
#include <optional>

#include <torchkeep/state/value.h>
#include <torchkeep/state/walk.h>

namespace torchkeep {

/// What rewrite() does with a part.
struct Edit {
  enum class What : std::uint8_t {
    keep,     ///< and ask about its parts
    replace,  ///< by `value`, which is not looked into
    drop,     ///< an entry or attribute disappears; elsewhere, where the position counts, None takes its place
  };
  What what = What::keep;
  Value value = {};
  /// The entry's new key; only for parts that are entries of a mapping.
  std::optional<Value> key = {};
};

/// Asks `edit` about every part of `root` (not about the root itself), parents first, and gives the changed copy.
/// What is shared stays shared: a kept container is rewritten once, at the first place where it is met.
/// Throws Error (mismatch) when two entries of a mapping get one key. Iterative.
Value rewrite(const Value& root, const std::function<Edit(const Visit&)>& edit);

/// A copy of all containers whose tensors look at `change` of the storage they looked at, those in sparse tensors and
/// quantizers included. Asked once for each tensor.
Value with_storages(const Value& value, const std::function<StoragePtr(const StoragePtr&)>& change);

}  // namespace torchkeep
