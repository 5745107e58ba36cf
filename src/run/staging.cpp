// SPDX-License-Identifier: BSD-3-Clause
// Blocks in slabs: fresh memory is the dearest thing a save could ask for, so it asks once, for large pages.
#include "staging.h"

#include <algorithm>
#include <cstdlib>
#include <utility>

namespace torchkeep {

void Staging::Free::operator()(std::byte* memory) const noexcept {
  std::free(memory);
}

bool Staging::grow() {
  if (held() + kSlabBlocks * kBlock > limit_) return false;
  Slab slab;
  slab.memory.reset(static_cast<std::byte*>(std::aligned_alloc(kHugePage, kSlabBlocks * kBlock)));
  if (slab.memory == nullptr) return false;
  // The first slab is all that a small state needs, and a small part of one page of it.
  if (!slabs_.empty()) prefer_huge_pages({slab.memory.get(), kSlabBlocks * kBlock});
  for (std::size_t i = kSlabBlocks; i > 0; --i) slab.free.push_back(slab.memory.get() + (i - 1) * kBlock);
  slabs_.push_back(std::move(slab));
  return true;
}

std::byte* Staging::take() {
  auto slab = std::find_if(slabs_.begin(), slabs_.end(), [](const Slab& one) { return !one.free.empty(); });
  if (slab == slabs_.end()) {
    if (!grow()) return nullptr;
    slab = slabs_.end() - 1;
  }
  std::byte* const block = slab->free.back();
  slab->free.pop_back();
  most_used_ = std::max(most_used_, ++used_);
  return block;
}

void Staging::give(std::byte* block) {
  for (Slab& slab : slabs_) {
    if (block < slab.memory.get() || block >= slab.memory.get() + kSlabBlocks * kBlock) continue;
    slab.free.push_back(block);
    --used_;
    return;
  }
}

void Staging::trim() {
  const std::size_t needed = std::max(most_used_, most_used_before_);
  most_used_before_ = std::exchange(most_used_, 0);
  const std::size_t kept = (needed + kSlabBlocks - 1) / kSlabBlocks;
  while (slabs_.size() > kept && slabs_.back().free.size() == kSlabBlocks) slabs_.pop_back();
}

}  // namespace torchkeep
