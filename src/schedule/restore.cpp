// SPDX-License-Identifier: BSD-3-Clause
// Restoring in any order. The constructor of a scheduler writes into the optimizer's groups; when it comes after the
// optimizer's state was loaded, the loaded learning rates are gone. So every group remembers
//   1. what the load of the optimizer's state put in                        (GroupMemory::loaded)
//   2. what stood there after the last constructor                          (GroupMemory::constructed)
// and when a scheduler's state is loaded, each number that still is what a constructor left there is put back to what
// was loaded. A number somebody else has changed meanwhile is left alone, and the first step ends the matter.
#include <algorithm>
#include <array>

#include "handles.h"

namespace torchkeep::lr_scheduler {
namespace {

constexpr std::array<std::string_view, 9> group_keys = {
    "lr", "momentum", "betas", "initial_lr", "max_lr", "min_lr", "max_momentum", "base_momentum", "swa_lr"};

/// The number under a key; nothing where there is none, or something else that the program keeps under that name.
std::optional<Number> number_in(const ParamGroups& groups, std::size_t group, std::string_view key) {
  try {
    return groups.get(group, key);
  } catch (const Error&) {
    return std::nullopt;
  }
}

GroupMemory::Numbers snapshot(const ParamGroups& groups, std::size_t group) {
  GroupMemory::Numbers numbers;
  for (const std::string_view key : group_keys) {
    if (const auto value = number_in(groups, group, key)) numbers.emplace_back(key, *value);
  }
  return numbers;
}

const Number* find(const std::optional<GroupMemory::Numbers>& numbers, std::string_view key) {
  if (!numbers) return nullptr;
  const auto found =
      std::find_if(numbers->begin(), numbers->end(), [&](const auto& entry) { return entry.first == key; });
  return found == numbers->end() ? nullptr : &found->second;
}

}  // namespace

void ParamGroups::remember_loaded() {
  for (std::size_t i = 0; i < size(); ++i) memory(i) = {.loaded = snapshot(*this, i), .in_use = true};
}

namespace detail {

Construction::Construction(ParamGroups& groups) : groups_(groups) {
  // What the program changed by hand since the load, or since the last constructor, is not the loaded value any more.
  for (std::size_t i = 0; i < groups.size(); ++i) {
    GroupMemory& memory = groups.memory(i);
    if (!memory.loaded) continue;
    std::erase_if(*memory.loaded, [&](const auto& entry) {
      const Number* before = memory.constructed ? find(memory.constructed, entry.first) : &entry.second;
      const auto now = number_in(groups, i, entry.first);
      return !before || !now || !(*now == *before);
    });
  }
}

void Construction::finish() {
  for (std::size_t i = 0; i < groups_.size(); ++i) groups_.memory(i).constructed = snapshot(groups_, i);
}

void forget_loaded(ParamGroups& groups) {
  for (std::size_t i = 0; i < groups.size(); ++i) groups.memory(i) = {.in_use = true};
}

void put_back_loaded(ParamGroups& groups, const Numbers& last_lr) {
  for (std::size_t i = 0; i < groups.size(); ++i) {
    GroupMemory& memory = groups.memory(i);
    if (!memory.constructed) continue;
    for (auto& [key, left] : *memory.constructed) {
      const auto now = number_in(groups, i, key);
      if (!now || !(*now == left)) continue;
      if (const Number* loaded = find(memory.loaded, key)) {
        groups.set(i, key, *loaded);
        left = *loaded;
      } else if (!memory.in_use && key == "lr" && last_lr.size() == groups.size()) {
        groups.set(i, key, last_lr[i]);
      }
    }
  }
}

}  // namespace detail
}  // namespace torchkeep::lr_scheduler
