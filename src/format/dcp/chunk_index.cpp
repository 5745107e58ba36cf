// SPDX-License-Identifier: BSD-3-Clause
// A counting sort of chunks by tensor.
#include "chunk_index.h"

#include <algorithm>

namespace torchkeep {

ChunkIndex::ChunkIndex(const TensorTable& tensors, const ChunkTable& chunks) : tensors_(tensors), chunks_(chunks) {
  first_.assign(tensors.size() + 1, 0);
  for (const std::uint32_t tensor : chunks.tensor) ++first_[tensor + 1];
  for (std::size_t i = 0; i < tensors.size(); ++i) first_[i + 1] += first_[i];
  std::vector<std::size_t> next(first_.begin(), first_.end() - 1);
  order_.resize(chunks.size());
  position_.reserve(chunks.size());
  for (ChunkCursor at(tensors, chunks.tensor, chunks.boxes); !at.at_end(); at.next()) {
    order_[next[at.tensor()]++] = static_cast<std::uint32_t>(at.chunk());
    position_.push_back(at.position());
  }
}

BoxView ChunkIndex::box(std::uint32_t chunk) const noexcept {
  const std::size_t dims = tensors_.dims(chunks_.tensor[chunk]);
  const ShapeView numbers = ShapeView(chunks_.boxes).subspan(position_[chunk], 2 * dims);
  return {numbers.first(dims), numbers.last(dims)};
}

BoxList ChunkIndex::boxes(std::size_t tensor) const {
  BoxList list(tensors_.dims(tensor));
  const auto chunks = this->chunks(tensor);
  list.reserve(chunks.size());
  for (const std::uint32_t chunk : chunks) list.add(box(chunk));
  return list;
}

BoxIndex::BoxIndex(const ChunkIndex& index, std::size_t tensor)
    : index_(index), order_(index.chunks(tensor).begin(), index.chunks(tensor).end()) {
  std::sort(order_.begin(), order_.end(),
            [&](std::uint32_t a, std::uint32_t b) { return is_before(index_.box(a), index_.box(b)); });
}

bool BoxIndex::is_before(BoxView a, BoxView b) noexcept {
  const auto [x, y] = std::mismatch(a.offset.begin(), a.offset.end(), b.offset.begin());
  if (x != a.offset.end()) return *x < *y;
  return std::lexicographical_compare(a.size.begin(), a.size.end(), b.size.begin(), b.size.end());
}

std::optional<std::uint32_t> BoxIndex::find(BoxView wanted) const {
  const auto found = std::lower_bound(order_.begin(), order_.end(), wanted, [&](std::uint32_t chunk, BoxView box) {
    return is_before(index_.box(chunk), box);
  });
  if (found == order_.end() || is_before(wanted, index_.box(*found))) return std::nullopt;
  return *found;
}

}  // namespace torchkeep
