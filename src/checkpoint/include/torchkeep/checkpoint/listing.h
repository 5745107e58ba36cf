// SPDX-License-Identifier: BSD-3-Clause
// What a checkpoint holds, as rows: tensors and values with their paths, and totals.
#pragma once

#include <cstdint>
#include <limits>
#include <map>
#include <string>
#include <unordered_map>
#include <vector>

#include <torchkeep/checkpoint/sections.h>
#include <torchkeep/state/dtype.h>
#include <torchkeep/state/value.h>

namespace torchkeep {

/// A list, tuple or set.
bool has_elements(const Value& value) noexcept;

/// Tells which lists, tuples and sets hold plain values only (numbers, texts and the like). Remembers it of large ones,
/// for a small file may repeat one as often as it likes. The values must outlive it.
class PlainElements final {
 public:
  bool are_all_plain(const Value& container);

 private:
  std::unordered_map<const void*, bool> known_;
};

/// Numbers over some tensors and values.
struct Totals {
  std::uint64_t tensors = 0;
  std::uint64_t nbytes = 0;  ///< of the tensors' elements
  std::uint64_t values = 0;  ///< numbers, texts and other leaves that are no tensors
};

/// A tensor, a value, or a container that is not listed part by part.
struct Listed {
  std::string path;
  Section section = Section::other;
  Value value;
  Totals totals;          ///< of all in it
  bool repeated = false;  ///< a container that was listed at another path
};

struct Listing {
  std::vector<Listed> rows;  ///< in the order of the checkpoint
  Totals totals;
  std::uint64_t stored = 0;  ///< bytes of all storages, each counted once
  std::map<DType, Totals> by_dtype;
  /// By the keys at the top, in order; one entry with an empty key for a checkpoint that is one section.
  std::vector<std::pair<SectionEntry, Totals>> by_key;
};

struct ListOptions {
  /// Containers this many steps from the root are one row.
  std::size_t depth = std::numeric_limits<std::size_t>::max();
};

/// Lists a checkpoint. Lists, tuples and sets of plain values are one row, empty containers too; shared containers are
/// listed once. No tensor's bytes are read.
Listing list_contents(const Value& checkpoint, const ListOptions& options = {});

}  // namespace torchkeep
