// SPDX-License-Identifier: BSD-3-Clause
// An insertion-ordered hash table over Values, with Python's rules for when two keys are the same.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include <torchkeep/base/memory.h>
#include <torchkeep/state/value.h>

namespace torchkeep::detail {

/// Python's hash, in spirit: equal keys hash equal (1, 1.0 and True too). Throws Error (invalid_argument) for an
/// unhashable key, (refused) for a key of more than 65,536 parts.
std::uint64_t key_hash(const Value& key);
std::uint64_t key_hash(std::string_view text) noexcept;
/// Python's == between hashable values, and `is` for tensors and opaque objects.
bool key_equal(const Value& a, const Value& b);

/// Entries in insertion order with an index by key (built from the ninth entry on; below, a scan is faster).
class Mapping {
 public:
  Mapping() = default;
  /// A repeated key keeps its first place and gets the last value.
  explicit Mapping(std::vector<Entry> entries);
  std::span<const Entry> entries() const noexcept { return entries_; }
  std::size_t size() const noexcept { return entries_.size(); }
  std::optional<std::size_t> find(const Value& key) const;
  std::optional<std::size_t> find(std::string_view key) const;
  /// Adds or replaces (an existing entry keeps its key and place).
  void set(const Value& key, Value value);
  bool erase(const Value& key);

 private:
  template <class Same>
  std::optional<std::size_t> find_hashed(std::uint64_t hash, const Same& same) const;
  void insert_index(std::size_t position);
  void rebuild_index();

  std::vector<Entry> entries_;
  std::vector<std::uint64_t> hashes_;
  LargeVector<std::uint32_t> slots_;  // open addressing: 1 + position, 0 is free
};

}  // namespace torchkeep::detail
