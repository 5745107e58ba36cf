// SPDX-License-Identifier: BSD-3-Clause
// The items inside a rank's file, by what the file says of itself.
#pragma once

#include <memory>
#include <vector>

#include <torchkeep/format/pt.h>
#include <torchkeep/state/tensor.h>

namespace torchkeep {

/// Where the items of a rank's file lie, in ascending order; nothing for any other file, and when what it says of them
/// cannot be: then they overlap, or leave the file.
std::vector<ByteRange> rank_file_items(const std::shared_ptr<const ReadAt>& file, const Limits& limits);

}  // namespace torchkeep
