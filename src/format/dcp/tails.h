// SPDX-License-Identifier: BSD-3-Clause
// The tails of rank files: by them a file is known to be of the save that the manifest is of.
#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <vector>

#include <torchkeep/format/manifest.h>

namespace torchkeep::dcp {

/// Checks the tail of each file when it is opened for the first time, and keeps its table of CRCs of blocks: 4 bytes a
/// MiB of the files that were opened.
class Tails {
 public:
  Tails(std::string save, std::vector<Manifest::File> files);

  /// Throws Error (corrupt) that names the file and its rank, and the save it is of where it is of another one.
  void check(std::uint32_t file, const ReadAt& bytes);
  /// CRCs of the blocks of a file that was checked.
  std::span<const std::uint32_t> numbers(std::uint32_t file) const;

 private:
  std::string save_;
  std::vector<Manifest::File> files_;
  mutable std::mutex mutex_;
  std::vector<std::vector<std::uint32_t>> numbers_;  // by file
};

}  // namespace torchkeep::dcp
