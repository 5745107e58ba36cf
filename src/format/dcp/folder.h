// SPDX-License-Identifier: BSD-3-Clause
// A DCP folder whose .metadata has been read and compared with its files.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "item.h"
#include "metadata.h"
#include "tails.h"

namespace torchkeep::dcp {

struct OpenFolder {
  std::string path;
  Metadata metadata;
  std::shared_ptr<const ItemSource> source;
  std::vector<std::string> notes;
  std::uint64_t nbytes = 0;  ///< of all its data files and .metadata
  /// Of a folder with a manifest, without the chunks, which `metadata` has.
  std::optional<Manifest> manifest = {};
  std::shared_ptr<const Tails> tails = nullptr;  ///< of the same
};

/// Reads manifest.pt where torchkeep wrote the folder, else .metadata, or what each rank wrote for itself, and checks
/// all that can be checked without the items: that chunks cover their tensors exactly once, that every item has a place
/// inside a file that is there.
OpenFolder open_folder(const Folder& folder, const PtReadOptions& options);

/// The state of the folder, nested, with tensors of the device meta in place of those in chunks; without what single
/// ranks have where there is a manifest.
Value structure_of(const Folder& folder, const PtReadOptions& options, OpenFolder& opened);

}  // namespace torchkeep::dcp
