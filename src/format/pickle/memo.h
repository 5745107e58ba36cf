// SPDX-License-Identifier: BSD-3-Clause
// Hash tables of the pickle writer: from a number or a text to a small number.
#pragma once

#include <cstdint>
#include <string_view>
#include <utility>
#include <vector>

#include "hash.h"

namespace torchkeep::pickle {

/// Open addressing, grows, never removes. Key: an integer type or std::string_view.
template <class Key>
class Memo {
 public:
  /// The place of `key`'s number and whether it was already there; a new one is to be filled in by the caller.
  std::pair<std::uint32_t*, bool> insert(Key key) {
    if (2 * (count_ + 1) > cells_.size()) grow();
    Cell& cell = find_cell(key);
    const bool found = cell.is_used;
    if (!found) {
      cell = {key, 0, true};
      ++count_;
    }
    return {&cell.number, found};
  }
  const std::uint32_t* find(Key key) const {
    if (cells_.empty()) return nullptr;
    const Cell& cell = const_cast<Memo*>(this)->find_cell(key);
    return cell.is_used ? &cell.number : nullptr;
  }

 private:
  struct Cell {
    Key key{};
    std::uint32_t number = 0;
    bool is_used = false;
  };

  static std::uint64_t hash(std::uint64_t key) noexcept { return detail::fold_multiply(key, 0x9e3779b97f4a7c15); }
  static std::uint64_t hash(std::string_view key) noexcept { return detail::hash_text(key, detail::hash_seed()); }

  Cell& find_cell(Key key) {
    const std::size_t mask = cells_.size() - 1;
    std::size_t i = hash(key) & mask;
    while (cells_[i].is_used && cells_[i].key != key) i = (i + 1) & mask;
    return cells_[i];
  }
  void grow() {
    std::vector<Cell> old(cells_.empty() ? 64 : 2 * cells_.size());
    old.swap(cells_);
    for (const Cell& cell : old) {
      if (cell.is_used) find_cell(cell.key) = cell;
    }
  }

  std::vector<Cell> cells_;
  std::size_t count_ = 0;
};

}  // namespace torchkeep::pickle
