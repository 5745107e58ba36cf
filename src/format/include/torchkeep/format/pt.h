// SPDX-License-Identifier: BSD-3-Clause
// torch.save's zip format (.pt): a Value to a Plan, and a file's bytes back to a Value.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include <torchkeep/base/bytes.h>
#include <torchkeep/format/plan.h>
#include <torchkeep/format/record_storage.h>
#include <torchkeep/state/value.h>

namespace torchkeep {

/// Limits a reader checks before it asks for memory. The defaults suit any honest checkpoint.
struct Limits {
  std::uint64_t max_pickle_bytes = std::uint64_t{1} << 30;  ///< size of data.pkl
  std::uint64_t max_records = std::uint64_t{1} << 24;       ///< entries of the zip
  std::uint64_t max_objects = std::uint64_t{1} << 26;       ///< containers and tensors the pickle may make
};

/// What becomes of an object whose class torchkeep does not know. Nothing is called either way.
enum class UnknownClasses : std::uint8_t {
  refuse,  ///< an error (refused) that names the class
  opaque,  ///< an Opaque: class name, arguments and state, to be looked at
};

/// How to read a .pt file.
struct PtReadOptions {
  /// Check the CRC-32 of every record when its bytes are handed out. A stored 0 on a non-empty record means
  /// "not computed" (PyTorch can switch it off) and is accepted.
  bool verify = true;
  UnknownClasses unknown_classes = UnknownClasses::refuse;
  Limits limits = {};
  /// Map the file where that can be done: Storage::data() of a record then gives its bytes without a copy. The mapping
  /// is private: what is written to it does not reach the file. A file that somebody cuts short while it is mapped ends
  /// the program (SIGBUS); one that is replaced by rename does not change.
  bool map = false;
};

/// The layout of the file that torch.save would write for `value`: records data.pkl, .format_version,
/// .storage_alignment, byteorder, data/0 ..., version, stored, 64-byte aligned, root folder "archive".
/// Throws Error (unsupported, with the key path) for what PyTorch's safe loader could
/// not read back.
Plan plan_pt(const Value& value);

/// A .pt file whose pickle has been read, and whose storages are records that nobody has read yet.
struct PtFile {
  Value value;
  std::vector<std::shared_ptr<RecordStorage>> storages;  ///< each once, in the order of their first use
};

/// Reads the structure of a .pt file. Storages of the result are records of `file`: their bytes are read, and their
/// CRC checked, when somebody asks for them. Throws Error (corrupt, refused, unsupported) naming file, record, offset.
PtFile open_pt(std::shared_ptr<const ReadAt> file, const PtReadOptions& options = {});

/// open_pt() for those who only want the Value.
inline Value read_pt(std::shared_ptr<const ReadAt> file, const PtReadOptions& options = {}) {
  return open_pt(std::move(file), options).value;
}

}  // namespace torchkeep
