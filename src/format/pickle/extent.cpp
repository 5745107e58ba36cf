// SPDX-License-Identifier: BSD-3-Clause
// Whether a tensor lies inside its storage, or inside the view of it that old files speak of.
#include <fmt/format.h>

#include <torchkeep/base/checked.h>

#include "pickle.h"

namespace torchkeep::pickle {
namespace {

// Elements from the start of the storage up to the last one of a valid tensor. Strides of one without elements may be
// anything.
std::int64_t reach(const Tensor& tensor) {
  std::int64_t last = tensor.storage_offset;
  if (tensor.numel() == 0) return last;
  for (std::size_t i = 0; i < tensor.sizes.size(); ++i) last += (tensor.sizes[i] - 1) * tensor.strides[i];
  return last + 1;
}

}  // namespace

void check_extent(const Tensor& tensor, const Limits& limits) {
  tensor.validate();
  // An expanded tensor costs nothing here, but everything to whoever looks at all of its elements.
  if (!tensor.is_meta() && tensor.nbytes() > tensor.storage->nbytes() && tensor.nbytes() > limits.max_expanded_bytes) {
    throw Error(Code::refused, fmt::format("its strides make {} bytes of {}, more than the limit of {} "
                                           "(Limits::max_expanded_bytes)",
                                           tensor.nbytes(), tensor.storage->nbytes(), limits.max_expanded_bytes));
  }
}

void place_in_view(Tensor& tensor, const LoadedStorage& view, const Limits& limits) {
  const auto offset = checked_add(tensor.storage_offset, view.first);
  if (tensor.storage_offset < 0 || !offset) {
    throw Error(Code::corrupt, fmt::format("storage offset {}", tensor.storage_offset));
  }
  tensor.storage_offset = *offset;
  check_extent(tensor, limits);
  if (view.count && reach(tensor) > view.first + *view.count) {
    throw Error(Code::corrupt, fmt::format("a tensor that reaches past its view of {} elements", *view.count));
  }
}

}  // namespace torchkeep::pickle
