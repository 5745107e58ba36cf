// SPDX-License-Identifier: BSD-3-Clause
// What a call of the package reads: the file at a path, or the bytes of a file object.
#pragma once

#include <memory>
#include <string>

#include "watched_fs.h"

namespace torchkeep::python {

/// Reads what `_streams.source` made of an argument: a path, or (name, bytes) of a file object. Lives as long as what
/// is opened by it.
class Source {
 public:
  /// `watch` must outlive it. With the GIL.
  Source(nb::handle from, Watch& watch);

  /// The path, or the name of the file object, for errors.
  const std::string& path() const noexcept { return path_; }
  /// The file system in which path() is this file.
  Fs& fs() noexcept { return *fs_; }

 private:
  std::string path_;
  std::unique_ptr<Fs> bytes_;  // of a file object
  std::unique_ptr<Fs> fs_;
};

}  // namespace torchkeep::python
