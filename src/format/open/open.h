// SPDX-License-Identifier: BSD-3-Clause
// What the readers of the formats share.
#pragma once

#include <torchkeep/format/open_file.h>

#include "pickle/pickle.h"

namespace torchkeep::open {

/// The format by the first bytes alone: a zip of any kind is torch_zip.
FileFormat recognize_start(const ReadAt& file);

/// How pickles are read under these options; files inside them (pickle.dump of a tensor) are opened at depth + 1.
pickle::ReadContext make_context(const PtReadOptions& options, int depth);

/// Runs the pickle that begins at `position` and moves `position` behind it. `context.base` is where the record begins
/// that errors count offsets in.
Value read_pickle_at(const ReadAt& file, std::uint64_t& position, std::uint64_t end, std::uint64_t limit,
                     pickle::ReadContext context);

/// open_file() for a file that lies inside `depth` others.
OpenedFile open_at_depth(std::shared_ptr<const ReadAt> file, const PtReadOptions& options, int depth);

/// open_pt() for a file that lies inside `depth` others.
OpenedFile open_zip(std::shared_ptr<const ReadAt> file, const PtReadOptions& options, int depth);

/// An index of sharded weights, and the shards.
OpenedFile read_index(std::shared_ptr<const ReadAt> file, const PtReadOptions& options, int depth);

/// A file that pickle.dump wrote.
OpenedFile read_raw_pickle(std::shared_ptr<const ReadAt> file, const PtReadOptions& options, int depth);

}  // namespace torchkeep::open
