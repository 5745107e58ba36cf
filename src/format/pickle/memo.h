// SPDX-License-Identifier: BSD-3-Clause
// Hash tables of the pickle writer, from a thing written before to its number.
#pragma once

#include <cstdint>
#include <string_view>
#include <utility>
#include <vector>

#include <torchkeep/base/hash.h>

namespace torchkeep::pickle {

/// Numbers by address: open addressing, grows, never removes. Addresses are not 0, numbers below 2^32 - 1.
class AddressMemo {
 public:
  /// The number of `address`, which becomes `number` if it has none; and whether it had one.
  std::pair<std::uint32_t, bool> insert(const void* address, std::uint32_t number) {
    if (2 * (count_ + 1) > cells_.size()) grow();
    Cell& cell = find_cell(address);
    if (cell.address != nullptr) return {cell.number, true};
    cell = {address, number};
    ++count_;
    return {number, false};
  }
  const std::uint32_t* find(const void* address) noexcept {
    if (count_ == 0) return nullptr;
    const Cell& cell = find_cell(address);
    return cell.address != nullptr ? &cell.number : nullptr;
  }

 private:
  struct Cell {
    const void* address = nullptr;
    std::uint32_t number = 0;
  };

  Cell& find_cell(const void* address) noexcept {
    const std::size_t mask = cells_.size() - 1;
    std::size_t i = detail::fold_multiply(reinterpret_cast<std::uintptr_t>(address), 0x9e3779b97f4a7c15) & mask;
    while (cells_[i].address != nullptr && cells_[i].address != address) i = (i + 1) & mask;
    return cells_[i];
  }
  void grow() {
    std::vector<Cell> old(cells_.empty() ? 64 : 2 * cells_.size());
    old.swap(cells_);
    for (const Cell& cell : old) {
      if (cell.address != nullptr) find_cell(cell.address) = cell;
    }
  }

  std::vector<Cell> cells_;
  std::size_t count_ = 0;
};

/// Numbers of the texts written last. A text that others have pushed out is written again, which costs its bytes; a
/// table of all texts would cost a cache miss for each.
class TextMemo {
 public:
  TextMemo() : cells_(kCells) {}

  /// The number of `text`; nullptr when it has none. The next call may change what the pointer leads to.
  const std::uint32_t* find(std::string_view text) noexcept {
    last_ = &cells_[hash(text) % kCells];
    return last_->is_used && last_->text == text ? &last_->number : nullptr;
  }
  /// Gives the text for which find() has just found nothing a number. `text` must outlive the memo.
  void add(std::string_view text, std::uint32_t number) noexcept { *last_ = {text, number, true}; }

 private:
  static constexpr std::size_t kCells = 1024;
  struct Cell {
    std::string_view text;
    std::uint32_t number = 0;
    bool is_used = false;
  };

  // Without a secret: which texts are written out must depend on the texts alone. A bad choice of them costs bytes
  // only.
  static std::uint64_t hash(std::string_view text) noexcept { return detail::hash_text(text, 0x2545f4914f6cdd1d); }

  std::vector<Cell> cells_;
  Cell* last_ = nullptr;
};

}  // namespace torchkeep::pickle
