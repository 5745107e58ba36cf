// SPDX-License-Identifier: BSD-3-Clause
// A folder with a manifest of ours, as a folder of DCP.
#pragma once

#include <optional>

#include <torchkeep/format/dcp.h>
#include <torchkeep/format/manifest.h>

#include "metadata.h"

namespace torchkeep::dcp {

/// The manifest of a folder; nothing when there is none, and when manifest.pt is another program's. Throws Error
/// (corrupt) for a damaged one.
std::optional<Manifest> find_manifest(const Folder& folder, const PtReadOptions& options);

/// What a .metadata of the folder would say, with the places of all chunks: tensors, then values.
Metadata to_metadata(const Manifest& manifest);

/// Whether a file of torch.save is a manifest, of any version.
bool is_manifest(const Value& value);

}  // namespace torchkeep::dcp
