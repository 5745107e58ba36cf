// SPDX-License-Identifier: BSD-3-Clause
#include <libdeflate.h>

#include <torchkeep/base/crc32.h>

namespace torchkeep {

std::uint32_t crc32(Bytes bytes, std::uint32_t seed) noexcept {
  // libdeflate takes a null pointer as "start over" and would forget the seed.
  return bytes.empty() ? seed : libdeflate_crc32(seed, bytes.data(), bytes.size());
}

}  // namespace torchkeep
