// SPDX-License-Identifier: BSD-3-Clause
// Pickle to Value and back. Nothing is ever called: a global is a name on an allow-list, or an Opaque.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <torchkeep/base/bytes.h>
#include <torchkeep/format/pt.h>
#include <torchkeep/state/value.h>

namespace torchkeep::pickle {

/// A storage a pickle refers to. The size is noted because asking each of many small storages again is dear.
struct NumberedStorage {
  StoragePtr storage;
  std::uint64_t nbytes;
};

/// A pickle and the storages it refers to, in order of first use: number n is record data/n.
struct Pickled {
  std::string bytes;
  std::vector<NumberedStorage> storages;
};

/// Writes `value` as torch.save pickles it (protocol 2). Throws Error (unsupported) with the key path for what
/// PyTorch's safe loader does not read back as it was.
Pickled write(const Value& value);

/// What a pickle says about a storage: the fields of its persistent id.
struct StorageReference {
  std::optional<DType> dtype;  ///< of its class; none for UntypedStorage, whose elements are bytes
  std::string_view key;
  std::string_view location;
  std::uint64_t nbytes = 0;
};

/// A storage, and the dtype of tensors over it that name none: that of the class under which it was first met.
struct LoadedStorage {
  StoragePtr storage;
  DType dtype;
};

/// What read() needs from its caller.
struct ReadContext {
  Where where;  ///< file and record for errors
  Limits limits;
  UnknownClasses unknown_classes = UnknownClasses::refuse;
  /// Gives the storage a persistent id names; throws Error when there is none of that size.
  std::function<LoadedStorage(const StorageReference&)> load_storage;
};

/// Runs the pickle in `bytes`. Throws Error (corrupt, refused, unsupported) with the byte offset.
Value read(Bytes bytes, const ReadContext& context);

}  // namespace torchkeep::pickle
