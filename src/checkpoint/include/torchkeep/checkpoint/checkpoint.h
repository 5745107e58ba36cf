// SPDX-License-Identifier: BSD-3-Clause
// save and load: a Value to a durable file and back.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include <torchkeep/files/fs.h>
#include <torchkeep/format/pt.h>
#include <torchkeep/state/value.h>

namespace torchkeep {

/// How to save.
struct SaveOptions {
  /// Wait until the file and its name are on the disk (fsync of both). Without it the file still appears whole or
  /// not at all to other processes and after a kill, but a power cut may lose it.
  bool durable = true;
  /// Read the file back and check every CRC after it was written and synced, before its name leads to it.
  bool read_back = false;
  /// The file system to write to; null is the machine's.
  Fs* fs = nullptr;
  /// Store of each storage only the part its tensors look at: a row of a huge table then costs a row. A tensor that is
  /// alone on its storage and leaves gaps in that part becomes contiguous.
  bool compact_views = false;
  /// Which way the bytes take to the disk; the file is the same. Nothing: WritePath::direct for a durable save of 4 MiB
  /// or more, WritePath::page_cache otherwise.
  std::optional<WritePath> write_path = std::nullopt;
  /// Threads that read back, as in LoadOptions. One thread writes, however many cores there are: two that write one
  /// file are slower than one, and the CRCs it computes on the way cost less than the disk or the cache takes.
  unsigned threads = 0;
  /// See PublishOptions::replace_link.
  bool replace_link = false;
};

/// How to load.
struct LoadOptions {
  /// Check the CRC-32 of every record while it is read.
  bool verify = true;
  /// What to do with objects of classes torchkeep does not know. By default they can be looked at, as Opaque: a
  /// Lightning checkpoint or a whole pickled module loads, and its tensors can be used. Nothing is ever called, and
  /// save() refuses them. `refuse` is what PyTorch's safe loader does.
  UnknownClasses unknown_classes = UnknownClasses::opaque;
  /// Only these parts, by their paths ("model", "optimizer.state"): the containers above them stay and hold nothing
  /// else. The other tensors are not read, nor checked. Empty: everything. Error (not_found) lists what is not there.
  std::vector<std::string> only = {};
  /// Leave out every object that would be Opaque, as drop_objects() does.
  bool drop_objects = false;
  /// See PtReadOptions.
  bool keep_builtin_classes = false;
  /// See Limits.
  Limits limits = {};
  /// The file system to read from; null is the machine's.
  Fs* fs = nullptr;
  /// Map the file instead of reading it: opening costs the same whatever its size, and a tensor's record is read and
  /// its CRC checked when its bytes are first wanted (Storage::data() or read()). The file must not be changed in place
  /// meanwhile; replacing it is safe. Where it cannot be mapped, records are read when they are wanted.
  bool map = false;
  /// Threads that read and check, the caller's included; 0: one per core, but not more than 16.
  unsigned threads = 0;
};

/// How to load into live memory.
struct LoadIntoOptions {
  /// Read and check the whole file before the first byte of a target is changed: twice the reading, and a damaged file
  /// changes nothing.
  bool verify_first = false;
  /// See LoadOptions.
  UnknownClasses unknown_classes = UnknownClasses::opaque;
  bool keep_builtin_classes = false;
  Limits limits = {};
  Fs* fs = nullptr;
  unsigned threads = 0;
};

/// Writes `value` to `path` in torch.save's format, atomically: `path` holds the old file or the complete new one,
/// never part of it. Throws Error: unsupported (a value PyTorch's safe loader could not read, with its key path),
/// refused (more than 1 GiB of it is no tensor, see Limits), not_found (missing folder), io (full disk, permission
/// ...). After an error the old file is untouched. Tensors that alias live memory must not change meanwhile.
void save(const Value& value, const std::string& path, const SaveOptions& options = {});

/// Reads `path`, of any format in FileFormat, whole into memory, and checks all it reads that has a checksum. Throws
/// Error: not_found, corrupt, refused, unsupported, io.
Value load(const std::string& path, const LoadOptions& options = {});

/// The same of a file that is open, or bytes that are in memory (MemoryReadAt). An index of shards cannot be loaded so.
/// `end` receives where the checkpoint ends: behind a stream of PyTorch before 1.6 or a pickle may follow others.
Value load(const std::shared_ptr<const ReadAt>& file, const LoadOptions& options = {}, std::uint64_t* end = nullptr);

/// A file opened for those who read its tensors into memory of their own (LiveReader): small records are in memory
/// and verified, larger ones are read, and their CRC checked, when their bytes are wanted.
class OpenedCheckpoint final {
 public:
  /// Throws what load() throws, but for the damage that only reading shows.
  explicit OpenedCheckpoint(const std::string& path, const LoadIntoOptions& options = {});
  const Value& value() const noexcept { return file_.value; }
  /// Checks the CRCs of what is not in memory: of the file that was opened, whatever its path names by now. Throws what
  /// reading would throw, and keeps nothing.
  void verify() const;

 private:
  OpenedFile file_;
  unsigned threads_;
};

/// The Value of an OpenedCheckpoint.
Value open_checkpoint(const std::string& path, const LoadIntoOptions& options = {});

/// Reads `path` straight into live memory, without a second copy of the state. `targets` is a Value built like the file
/// whose tensors look at memory that may be overwritten (BorrowedStorage; state_dict() of a LibTorch module). Every
/// tensor in it must be in the file, under the same key path and with the same shape and dtype; strides may differ. All
/// of that is checked before the first byte is read: Error (mismatch) lists everything that does not fit. Then the
/// records are read into place and their CRCs checked on the way; an Error (corrupt, io) says that the targets are
/// partly overwritten where that is so. Returns the file's Value; its tensors are those of `targets` where there is
/// one, and in memory of their own elsewhere. Formats other than a torch.save zip are read into memory first.
Value load_into(const std::string& path, const Value& targets, const LoadIntoOptions& options = {});

/// Checks a file to its last byte, in little memory: all that check_file() (torchkeep/format/check.h) checks, which is
/// more than load() does. Throws the first of what is wrong: whenever load() throws, so does verify().
void verify(const std::string& path, const LoadOptions& options = {});

}  // namespace torchkeep
