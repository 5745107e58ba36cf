// SPDX-License-Identifier: BSD-3-Clause
// CRC-32 as zip uses it (ISO 3309, polynomial 0x04C11DB7 reflected), at memory speed.
#pragma once

#include <cstdint>

#include <torchkeep/base/bytes.h>

namespace torchkeep {

/// The CRC-32 of `bytes` that follow data whose CRC-32 is `seed` (0 at the start).
std::uint32_t crc32(Bytes bytes, std::uint32_t seed = 0) noexcept;

/// The CRC-32 of two runs of bytes, one behind the other, from the CRC-32 of each and the length of the second.
std::uint32_t crc32_combine(std::uint32_t first, std::uint32_t second, std::uint64_t second_size) noexcept;

}  // namespace torchkeep
