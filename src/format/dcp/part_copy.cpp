// SPDX-License-Identifier: BSD-3-Clause
// Runs that are one piece in a chunk and in a target. Both were checked before: nothing here can overflow.
#include "part_copy.h"

namespace torchkeep::dcp {

PartCopy::PartCopy(BoxView common, BoxView chunk, BoxView wanted, ShapeView strides, std::size_t itemsize)
    : length_(itemsize) {
  std::vector<Dimension> dimensions(common.size.size());
  std::uint64_t stride = itemsize;
  for (std::size_t d = dimensions.size(); d-- > 0;) {
    const auto behind = [&](std::int64_t begin) { return static_cast<std::uint64_t>(common.offset[d] - begin); };
    dimensions[d] = {static_cast<std::uint64_t>(common.size[d]), stride,
                     static_cast<std::uint64_t>(strides[d]) * itemsize};
    from_ += behind(chunk.offset[d]) * stride;
    to_ += behind(wanted.offset[d]) * dimensions[d].to;
    stride *= static_cast<std::uint64_t>(chunk.size[d]);
  }
  std::size_t d = dimensions.size();
  for (; d > 0; --d) {
    const Dimension& inner = dimensions[d - 1];
    if (inner.size != 1 && (inner.from != length_ || inner.to != length_)) break;
    length_ *= inner.size;
  }
  for (std::size_t i = 0; i < d; ++i) {
    if (dimensions[i].size == 1) continue;
    outer_.push_back(dimensions[i]);
    count_ *= dimensions[i].size;
  }
}

}  // namespace torchkeep::dcp
