// SPDX-License-Identifier: BSD-3-Clause
// Folders of torch.distributed.checkpoint (DCP): a .metadata that says which part of which tensor lies where in the
// data files of many ranks.
#pragma once

#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include <torchkeep/base/bytes.h>
#include <torchkeep/format/check.h>
#include <torchkeep/format/pt.h>

namespace torchkeep {

/// A folder, as a format reads it.
struct Folder {
  std::string name;                ///< its path, for errors
  std::vector<std::string> files;  ///< the names in it
  /// Opens one of them. Throws Error (not_found) when there is none of this name.
  std::function<std::shared_ptr<const ReadAt>(const std::string& name)> open;
};

/// Whether these are names of a DCP folder, a finished one or not: .metadata, __<rank>.metadata or data files
/// (__<rank>_<number>.distcp).
bool is_dcp_folder(std::span<const std::string> names) noexcept;

/// Reads the structure of a DCP folder, nested as it was saved. Tensors are put together out of their chunks when their
/// bytes are read, in little memory; each chunk's CRC-32 is checked then. Values that are no tensors are read now.
/// Nothing is ever called. Checked now: that the chunks of each tensor cover it exactly once and that the files hold
/// them. Throws Error (corrupt, refused, unsupported) that names the file and the key.
OpenedFile open_dcp(const Folder& folder, const PtReadOptions& options = {});

/// Checks every item of every tensor and value as check_file() checks a file.
FileCheck check_dcp(const Folder& folder, const CheckOptions& options = {});

}  // namespace torchkeep
