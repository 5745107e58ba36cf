// SPDX-License-Identifier: BSD-3-Clause
// Hashing for lookup tables over names that a file chooses.
#pragma once

#include <chrono>
#include <cstdint>
#include <cstring>
#include <string_view>

namespace torchkeep::detail {

/// A number that the author of a file cannot know, so that nobody can prepare names that all collide.
inline std::uint64_t hash_seed() noexcept {
  static const char anchor = 0;
  static const std::uint64_t seed =
      reinterpret_cast<std::uintptr_t>(&anchor) * 0x9e3779b97f4a7c15 ^
      static_cast<std::uint64_t>(std::chrono::steady_clock::now().time_since_epoch().count());
  return seed;
}

/// Both halves of a 128-bit product, folded.
inline std::uint64_t fold_multiply(std::uint64_t a, std::uint64_t b) noexcept {
  __extension__ using Wide = unsigned __int128;
  const Wide product = static_cast<Wide>(a) * b;
  return static_cast<std::uint64_t>(product) ^ static_cast<std::uint64_t>(product >> 64);
}

inline std::uint64_t hash_text(std::string_view text, std::uint64_t seed) noexcept {
  std::uint64_t hash = seed ^ (text.size() * 0x9e3779b97f4a7c15);
  while (!text.empty()) {
    std::uint64_t chunk = 0;
    const std::size_t size = text.size() < 8 ? text.size() : 8;
    std::memcpy(&chunk, text.data(), size);
    hash = fold_multiply(hash ^ chunk, 0xa0761d6478bd642f ^ seed);
    text.remove_prefix(size);
  }
  return hash;
}

}  // namespace torchkeep::detail
