// SPDX-License-Identifier: BSD-3-Clause
// The lightest rank; the name decides between equals.
#include <algorithm>
#include <fmt/format.h>

#include <torchkeep/base/error.h>
#include <torchkeep/shard/owners.h>

namespace torchkeep {
namespace {

// FNV-1a: the same in every process.
std::uint64_t stable_hash(std::string_view text) noexcept {
  std::uint64_t hash = 0xcbf29ce484222325;
  for (const char c : text) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3;
  return hash ^ (hash >> 32);
}

}  // namespace

std::size_t Owners::choose(std::span<const std::size_t> ranks, std::uint64_t nbytes, std::string_view name) {
  if (ranks.empty()) throw Error(Code::invalid_argument, fmt::format("'{}' is on no rank", name));
  std::vector<std::size_t> lightest;
  for (const std::size_t rank : ranks) {
    if (rank >= bytes_.size()) {
      throw Error(Code::invalid_argument, fmt::format("'{}' is on rank {} of {}", name, rank, bytes_.size()));
    }
    if (!lightest.empty() && bytes_[rank] > bytes_[lightest[0]]) continue;
    if (!lightest.empty() && bytes_[rank] < bytes_[lightest[0]]) lightest.clear();
    lightest.push_back(rank);
  }
  std::sort(lightest.begin(), lightest.end());  // whatever order they were named in
  const std::size_t owner = lightest[stable_hash(name) % lightest.size()];
  bytes_[owner] += nbytes;
  return owner;
}

}  // namespace torchkeep
