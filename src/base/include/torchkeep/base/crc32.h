// SPDX-License-Identifier: BSD-3-Clause
// CRC-32 as zip uses it (ISO 3309, polynomial 0x04C11DB7 reflected), at memory speed.
#pragma once

#include <cstdint>

#include <torchkeep/base/bytes.h>

namespace torchkeep {

/// The CRC-32 of `bytes` that follow data whose CRC-32 is `seed` (0 at the start).
std::uint32_t crc32(Bytes bytes, std::uint32_t seed = 0) noexcept;

}  // namespace torchkeep
