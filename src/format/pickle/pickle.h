// SPDX-License-Identifier: BSD-3-Clause
// Pickle to Value and back. Nothing is ever called: a global is a name on an allow-list, or an Opaque.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <torchkeep/base/bytes.h>
#include <torchkeep/format/pt.h>
#include <torchkeep/state/value.h>
#include <unordered_map>
#include <vector>

namespace torchkeep::pickle {

/// The storages a pickle refers to, in order of first use: number n is record data/n.
class StorageTable {
 public:
  /// The number of a storage, by identity.
  std::uint32_t number(const StoragePtr& storage);
  const std::vector<StoragePtr>& storages() const noexcept { return storages_; }

 private:
  std::vector<StoragePtr> storages_;
  std::unordered_map<const void*, std::uint32_t> numbers_;
};

/// Writes `value` as torch.save pickles it (protocol 2), numbering its storages in `storages`.
std::string write(const Value& value, StorageTable& storages);

/// What a pickle says about a storage: the fields of its persistent id.
struct StorageReference {
  std::string_view storage_class;  ///< "FloatStorage", "UntypedStorage"
  std::string_view key;
  std::string_view location;
  std::int64_t numel = 0;
  std::uint64_t nbytes = 0;  ///< numel times the class's item size
};

/// What read() needs from its caller.
struct ReadContext {
  Where where;    ///< file and record for errors
  Limits limits;
  /// Gives the storage a persistent id names; throws Error when there is none of that size.
  std::function<StoragePtr(const StorageReference&)> load_storage;
};

/// Runs the pickle in `bytes`. Throws Error (corrupt, refused, unsupported) with the byte offset.
Value read(Bytes bytes, const ReadContext& context);

}  // namespace torchkeep::pickle
