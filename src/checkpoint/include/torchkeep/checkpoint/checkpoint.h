// SPDX-License-Identifier: BSD-3-Clause
// save and load: a Value to a durable file and back.
#pragma once

#include <string>

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
};

/// How to load.
struct LoadOptions {
  /// Check the CRC-32 of every record while it is read.
  bool verify = true;
  /// What to do with objects of classes torchkeep does not know.
  UnknownClasses unknown_classes = UnknownClasses::refuse;
  /// See Limits.
  Limits limits = {};
  /// The file system to read from; null is the machine's.
  Fs* fs = nullptr;
};

/// Writes `value` to `path` in torch.save's format, atomically: `path` holds the old file or the complete new one,
/// never part of it. Throws Error: unsupported (a value PyTorch's safe loader could not read, with its key path),
/// not_found (missing folder), io (full disk, permission ...). After an error the old file is untouched.
/// Tensors that alias live memory must not change meanwhile.
void save(const Value& value, const std::string& path, const SaveOptions& options = {});

/// Reads `path` whole into memory and checks every byte. Throws Error: not_found, corrupt, refused, unsupported, io.
Value load(const std::string& path, const LoadOptions& options = {});

/// Reads every byte of `path` and checks all that load() checks, in little memory. Throws what load() would throw.
void verify(const std::string& path, const LoadOptions& options = {});

}  // namespace torchkeep
