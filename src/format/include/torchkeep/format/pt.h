// SPDX-License-Identifier: BSD-3-Clause
// torch.save's zip format (.pt): a Value to a Plan, and a file's bytes back to a Value.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <utility>
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
  std::uint64_t max_dimensions = 64;                        ///< of a tensor
  /// Bytes of memory that a pickle may take for each byte of its own, beside max_free_bytes for any.
  std::uint64_t max_expansion = 256;
  std::uint64_t max_free_bytes = std::uint64_t{64} << 20;
  /// Bytes of all elements of a tensor whose strides make them more than its storage holds.
  std::uint64_t max_expanded_bytes = std::uint64_t{1} << 30;
  /// Bytes that the deflated records of a zip may inflate to in all, for each byte of the file, beside max_free_bytes.
  std::uint64_t max_inflation = 64;
};

/// What becomes of an object whose class torchkeep does not know. Nothing is ever called, whichever is chosen.
enum class UnknownClasses : std::uint8_t {
  refuse,   ///< an error (refused) that names the class
  opaque,   ///< an Opaque: class name, arguments and state, to be looked at; names that only attacks use are refused
  inspect,  ///< an Opaque whatever its name is ("os.system"): to look into a file that is an attack
};

/// How to read a .pt file.
struct PtReadOptions {
  /// Check the CRC-32 of every record when its bytes are handed out. A stored 0 on a non-empty record means
  /// "not computed" (PyTorch can switch it off) and is accepted.
  bool verify = true;
  UnknownClasses unknown_classes = UnknownClasses::opaque;
  /// Objects of Python's own data classes (argparse.Namespace, datetime: data_class.h) stay Opaque, for a reader that
  /// has these classes; otherwise they become plain data, as those of other data classes do.
  bool keep_builtin_classes = false;
  Limits limits = {};
  /// Map the file where that can be done: Storage::data() of a record then gives its bytes without a copy. The mapping
  /// is private: what is written to it does not reach the file. A file that somebody cuts short while it is mapped ends
  /// the program (SIGBUS); one that is replaced by rename does not change.
  bool map = false;
  /// Opens a file that lies beside this one, by its name: the shards that an index speaks of. Empty: none can be
  /// opened.
  std::function<std::shared_ptr<const ReadAt>(const std::string& name)> open_sibling = {};
};

/// The layout of the file that torch.save would write for `value`: records data.pkl, .format_version,
/// .storage_alignment, byteorder, data/0 ..., version, stored, 64-byte aligned, root folder "archive".
/// Throws Error: unsupported (with the key path) for what PyTorch's safe loader could not read back, refused for a
/// pickle of more than limits.max_pickle_bytes, which readers with the same limits would refuse.
Plan plan_pt(const Value& value, const Limits& limits = {});

enum class FileFormat : std::uint8_t;

/// A file whose structure has been read, and whose storages are ranges of it that nobody has read yet.
struct OpenedFile {
  FileFormat format{};
  Value value;
  /// The records of a zip that storages of `value` are: each once, in the order of their first use.
  std::vector<std::shared_ptr<RecordStorage>> records;
  /// True when `value` has storages that are not among `records`, but ranges of the file, or records turned around.
  bool has_other_storages = false;
  /// Storages beside `records` whose bytes have checksums: reading all of one checks it.
  std::vector<StoragePtr> checked_storages;
  /// Of a folder: the bytes of its files in all.
  std::uint64_t file_size = 0;
  /// The texts that safetensors keeps beside the tensors.
  std::vector<std::pair<std::string, std::string>> metadata;
  /// Where it ends in the file: behind a stream or a pickle may follow others.
  std::uint64_t end = 0;
  /// Safe to ignore, good to know: records without a checksum.
  std::vector<std::string> notes;
  /// What load() passes over and no honest writer writes, which check_file() calls damage: bytes behind the end.
  std::vector<std::string> hidden;
};

/// The Value with every storage in memory (`map`: where the file is mapped, in place), and its sparse and nested
/// tensors checked. Throws what reading a storage throws, and Error (corrupt) for indices that lead outside a tensor.
Value read_all(const OpenedFile& file, unsigned threads = 0, bool map = false);

/// Reads the structure of a zip of torch.save, TorchScript or LibTorch. Storages of the result are records of `file`:
/// their bytes are read, and their CRC checked, when somebody asks for them. Throws Error (corrupt, refused,
/// unsupported) naming file, record, offset.
OpenedFile open_pt(std::shared_ptr<const ReadAt> file, const PtReadOptions& options = {});

/// open_pt() for those who only want the Value.
inline Value read_pt(std::shared_ptr<const ReadAt> file, const PtReadOptions& options = {}) {
  return open_pt(std::move(file), options).value;
}

}  // namespace torchkeep
