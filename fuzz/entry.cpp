// SPDX-License-Identifier: BSD-3-Clause
// libFuzzer's way into one target, TORCHKEEP_FUZZ_TARGET.
#include <algorithm>
#include <cstdint>
#include <cstring>

#include "targets.h"

extern "C" std::size_t LLVMFuzzerMutate(std::uint8_t* data, std::size_t size, std::size_t max_size);

namespace {

// What libFuzzer does to bytes of which it knows nothing.
std::string change(std::string bytes) {
  constexpr std::size_t kRoom = 64;
  const std::size_t size = bytes.size();
  bytes.resize(size + kRoom);
  bytes.resize(LLVMFuzzerMutate(reinterpret_cast<std::uint8_t*>(bytes.data()), size, bytes.size()));
  return bytes;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const torchkeep::fuzz::Target& target = torchkeep::fuzz::find_target(TORCHKEEP_FUZZ_TARGET);
  target.run({reinterpret_cast<const char*>(data), size});
  return 0;
}

extern "C" std::size_t LLVMFuzzerCustomMutator(std::uint8_t* data, std::size_t size, std::size_t max_size,
                                               unsigned seed) {
  const std::string changed =
      torchkeep::fuzz::mutate(TORCHKEEP_FUZZ_TARGET, {reinterpret_cast<const char*>(data), size}, seed, change);
  const std::size_t taken = std::min(changed.size(), max_size);
  std::memcpy(data, changed.data(), taken);
  return taken;
}
