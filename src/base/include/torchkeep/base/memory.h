// SPDX-License-Identifier: BSD-3-Clause
// Advice to the system about large memory.
#pragma once

#include <torchkeep/base/bytes.h>

namespace torchkeep {

/// Bytes of a large page where the system has them; large memory is best aligned to this.
inline constexpr std::size_t kHugePage = std::size_t{2} << 20;

/// Asks for large pages under this memory before it is first touched: they are several times cheaper to get. Only whole
/// pages inside it are affected. Advice: nothing happens where the system has none.
void prefer_huge_pages(MutableBytes memory) noexcept;

}  // namespace torchkeep
