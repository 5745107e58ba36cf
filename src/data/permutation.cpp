// SPDX-License-Identifier: BSD-3-Clause
// The permutation of docs/sample-order.md; every constant and every step of it is frozen.
#include <algorithm>
#include <bit>
#include <fmt/format.h>

#include <torchkeep/base/error.h>
#include <torchkeep/data/permutation.h>

namespace torchkeep {
namespace {

constexpr std::uint64_t kGolden = 0x9e3779b97f4a7c15;
// In bits. Halves of one or two bits mix too slowly: the 5040 orders of 7 samples would be far from equally likely.
constexpr unsigned kSmallestBlock = 8;

/// The finaliser of SplitMix64 (Steele, Lea, Flood: "Fast splittable pseudorandom number generators", 2014).
constexpr std::uint64_t mix(std::uint64_t z) noexcept {
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
  z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
  return z ^ (z >> 31);
}

constexpr std::uint64_t low_bits(std::uint64_t value, unsigned count) noexcept {
  return value & ((std::uint64_t{1} << count) - 1);
}

}  // namespace

Permutation::Permutation(std::uint64_t size, std::uint64_t seed, std::uint64_t epoch) : size_(size) {
  const unsigned bits =
      std::max(kSmallestBlock, static_cast<unsigned>(std::bit_width(size - std::min<std::uint64_t>(size, 1))));
  left_bits_ = bits / 2;
  right_bits_ = bits - left_bits_;
  const std::uint64_t stream = mix(mix(seed + kGolden) ^ epoch);
  for (std::size_t round = 0; round < kRounds; ++round) keys_[round] = mix(stream + (round + 1) * kGolden);
}

std::uint64_t Permutation::operator()(std::uint64_t position) const {
  if (position >= size_) {
    throw Error(Code::invalid_argument, fmt::format("expected a position below {}, found {}", size_, position));
  }
  // Cycle walking: the network permutes at least `size` blocks; a result outside is sent through again.
  std::uint64_t block = encrypt(position);
  while (block >= size_) block = encrypt(block);
  return block;
}

std::uint64_t Permutation::encrypt(std::uint64_t block) const noexcept {
  std::uint64_t left = block >> right_bits_;
  std::uint64_t right = low_bits(block, right_bits_);
  for (std::size_t round = 0; round < kRounds; round += 2) {
    left ^= low_bits(mix(keys_[round] ^ right), left_bits_);
    right ^= low_bits(mix(keys_[round + 1] ^ left), right_bits_);
  }
  return (left << right_bits_) | right;
}

}  // namespace torchkeep
