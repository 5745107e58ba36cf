// SPDX-License-Identifier: BSD-3-Clause
// Which of the ranks that hold the same box writes it.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

namespace torchkeep {

/// Gives each box that several ranks hold to one of them, so that all write about as much. Every rank that asks the
/// same questions in the same order gets the same answers, so nobody has to talk.
class Owners {
 public:
  /// For ranks 0 to world - 1.
  explicit Owners(std::size_t world) : bytes_(world, 0) {}

  /// The rank of `ranks` that has the fewest bytes so far; of several, the one that the name picks. It gets `nbytes`
  /// more. Throws Error (invalid_argument) for no rank, or one outside of the world.
  std::size_t choose(std::span<const std::size_t> ranks, std::uint64_t nbytes, std::string_view name);
  /// Bytes that a rank has so far.
  std::uint64_t bytes(std::size_t rank) const { return bytes_.at(rank); }

 private:
  std::vector<std::uint64_t> bytes_;  // by rank
};

}  // namespace torchkeep
