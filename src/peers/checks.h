// SPDX-License-Identifier: BSD-3-Clause
// What every board checks of its arguments.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace torchkeep::detail {

/// Throws Error (invalid_argument) unless rank < world.
void require_rank(std::size_t rank, std::size_t world);
/// Throws Error (invalid_argument) for a value over kLargestPeerValue.
void require_small(const std::string& key, std::string_view value);

}  // namespace torchkeep::detail
