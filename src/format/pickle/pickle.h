// SPDX-License-Identifier: BSD-3-Clause
// Pickle to Value and back. Nothing is ever called: a global is a name on an allow-list, or an Opaque.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
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
/// PyTorch's safe loader does not read back as it was. Storages count from `first_number` on.
Pickled write(const Value& value, std::uint32_t first_number = 0);

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
  std::int64_t first = 0;                  ///< of a view of a storage: its first element
  std::optional<std::int64_t> count = {};  ///< of a view: its number of elements
};

/// Throws Error (corrupt) unless the tensor lies inside its storage, (refused) when its strides make much of little.
void check_extent(const Tensor& tensor, const Limits& limits);
/// Moves a tensor over a view of a storage to that storage; the same errors.
void place_in_view(Tensor& tensor, const LoadedStorage& view, const Limits& limits);

/// What read() needs from its caller.
struct ReadContext {
  Where where;             ///< file and record for errors
  std::uint64_t base = 0;  ///< where in them the pickle begins
  Limits limits;
  UnknownClasses unknown_classes = UnknownClasses::refuse;
  bool keep_builtin_classes = false;  ///< see PtReadOptions
  /// Gives the storage a persistent id names; throws Error when there is none of that size. Empty: there are none.
  std::function<LoadedStorage(const StorageReference&)> load_storage;
  /// Told that a tensor of this dtype lies in a storage whose class has none; may be empty.
  std::function<void(const Storage&, DType)> view_as;
  /// Gives what a persistent id that is a number stands for (the tar format); empty where there are none.
  std::function<std::variant<LoadedStorage, Tensor>(std::int64_t)> load_numbered;
  /// Gives the storage in a file of torch.save that the pickle holds as bytes; empty where that is refused.
  std::function<LoadedStorage(Bytes)> load_nested;
  /// Tells the names that this kind of file has beside the list, as plain data; null: none.
  bool (*also_known)(std::string_view module, std::string_view name) noexcept = nullptr;
};

/// Runs the pickle in `bytes`; what follows its STOP is left alone, and `end`, unless null, is set to where that
/// begins. Throws Error (corrupt, refused, unsupported) with the byte offset.
Value read(Bytes bytes, const ReadContext& context, std::uint64_t* end = nullptr);

/// Where the pickle that begins at `begin` ends, one past its STOP, found without running it. Throws Error (corrupt)
/// when it does not end before `end`, (refused) when it is longer than `limit`.
std::uint64_t find_end(const ReadAt& file, std::uint64_t begin, std::uint64_t end, std::uint64_t limit);

}  // namespace torchkeep::pickle
