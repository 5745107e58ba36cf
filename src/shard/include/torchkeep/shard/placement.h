// SPDX-License-Identifier: BSD-3-Clause
// Which box of a DTensor a rank holds: torch.distributed.tensor's rules as arithmetic.
#pragma once

#include <cstdint>
#include <span>

#include <torchkeep/shard/box.h>

namespace torchkeep {

/// What one dimension of a device mesh does to a tensor.
struct Placement {
  enum class Kind : std::uint8_t {
    replicate,      ///< every rank along it has the same
    shard,          ///< dimension `dim` is split as torch.chunk() splits it
    strided_shard,  ///< each of `split_factor` pieces of dimension `dim` is split: torch's _StridedShard
    partial,        ///< every rank has a summand: no rank has an element of the tensor
  };
  Kind kind = Kind::replicate;
  std::int64_t dim = 0;           ///< of a shard; negative counts from the last
  std::int64_t split_factor = 1;  ///< of a strided shard

  static Placement replicated() noexcept { return {}; }
  static Placement sharded(std::int64_t dim) noexcept { return {Kind::shard, dim, 1}; }
  static Placement strided(std::int64_t dim, std::int64_t split_factor) noexcept {
    return {Kind::strided_shard, dim, split_factor};
  }
  static Placement summed() noexcept { return {Kind::partial, 0, 1}; }
};

/// The box that the rank at `coordinate` of a mesh with `mesh` ranks in each dimension holds of a tensor of this shape,
/// `placements` being one for each dimension of the mesh. An empty part begins at the end of the tensor, as torch has
/// it. Throws Error: unsupported for Partial, and for a _StridedShard that leaves a rank more than one run of indices
/// (which is no box); invalid_argument for numbers that do not fit each other.
Box local_box(ShapeView shape, std::span<const std::int64_t> mesh, std::span<const std::int64_t> coordinate,
              std::span<const Placement> placements);

}  // namespace torchkeep
