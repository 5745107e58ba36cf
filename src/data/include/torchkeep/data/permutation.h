// SPDX-License-Identifier: BSD-3-Clause
// The order of the samples of an epoch: a permutation that is computed, not stored.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string_view>

namespace torchkeep {

/// A permutation of 0 ... size-1 chosen by (seed, epoch): the sample at every position costs the same few nanoseconds
/// and no memory, so that a resumed epoch continues anywhere at once. docs/sample-order.md defines it (a Feistel
/// network with cycle walking) and lists test vectors; it never changes: a different order would get another name. Not
/// for cryptography.
class Permutation {
 public:
  /// What a sampler's state calls this order.
  static constexpr std::string_view kName = "feistel-1";
  static constexpr std::size_t kRounds = 12;

  Permutation(std::uint64_t size, std::uint64_t seed, std::uint64_t epoch);

  std::uint64_t size() const noexcept { return size_; }
  /// The sample at `position`. Throws Error (invalid_argument) unless position < size().
  std::uint64_t operator()(std::uint64_t position) const;

 private:
  std::uint64_t encrypt(std::uint64_t block) const noexcept;

  std::uint64_t size_;
  unsigned left_bits_ = 0;
  unsigned right_bits_ = 0;
  std::array<std::uint64_t, kRounds> keys_{};
};

}  // namespace torchkeep
