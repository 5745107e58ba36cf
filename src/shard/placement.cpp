// SPDX-License-Identifier: BSD-3-Clause
// From placements on a mesh to a box. Each dimension of the tensor is a list of runs of indices, which the dimensions
// of the mesh cut one after another, from left to right.
#include <algorithm>
#include <fmt/format.h>
#include <vector>

#include <torchkeep/base/error.h>
#include <torchkeep/shard/placement.h>

namespace torchkeep {
namespace {

struct Run {
  std::int64_t begin;
  std::int64_t size;
};
using Runs = std::vector<Run>;

[[noreturn]] void invalid(std::string message) {
  throw Error(Code::invalid_argument, std::move(message));
}

std::int64_t count(const Runs& runs) {
  std::int64_t sum = 0;
  for (const Run& run : runs) sum += run.size;
  return sum;
}

// Part number `index` of `parts`, of [0, size): as torch.chunk() has it, the last ones may be short or empty.
Run part_of(std::int64_t size, std::int64_t parts, std::int64_t index) {
  const std::int64_t each = size / parts + (size % parts != 0);
  const std::int64_t begin = each != 0 && index >= size / each + 1 ? size : std::min(each * index, size);
  return {begin, std::min(each, size - begin)};
}

// Adds the elements number [first, first + size) of all that `runs` has, one after another, to `to`.
void append_part(Runs& to, const Runs& runs, Run part) {
  for (const Run& run : runs) {
    const std::int64_t skipped = std::min(part.begin, run.size);
    const std::int64_t taken = std::min(part.size, run.size - skipped);
    part.begin -= skipped;
    part.size -= taken;
    if (taken == 0) continue;
    const std::int64_t begin = run.begin + skipped;
    if (!to.empty() && to.back().begin + to.back().size == begin)
      to.back().size += taken;
    else
      to.push_back({begin, taken});
  }
}

Runs cut(const Runs& runs, const Placement& placement, std::int64_t parts, std::int64_t index) {
  const std::int64_t size = count(runs);
  // Pieces beyond the size are empty.
  const std::int64_t factor =
      placement.kind == Placement::Kind::shard ? 1 : std::clamp<std::int64_t>(placement.split_factor, 1, size + 1);
  Runs result;
  for (std::int64_t i = 0; i < factor; ++i) {
    const Run piece =
        placement.kind == Placement::Kind::shard ? Run{0, size} : part_of(size, placement.split_factor, i);
    const Run part = part_of(piece.size, parts, index);
    append_part(result, runs, {piece.begin + part.begin, part.size});
  }
  return result;
}

std::size_t checked_dim(const Placement& placement, std::size_t dims) {
  const auto signed_dims = static_cast<std::int64_t>(dims);
  const std::int64_t dim = placement.dim < 0 ? placement.dim + signed_dims : placement.dim;
  if (dim < 0 || dim >= signed_dims) {
    invalid(fmt::format("Shard({}) of a tensor with {} dimensions", placement.dim, dims));
  }
  if (placement.kind == Placement::Kind::strided_shard && placement.split_factor < 1) {
    invalid(fmt::format("_StridedShard with split_factor {}", placement.split_factor));
  }
  return static_cast<std::size_t>(dim);
}

void check_mesh(std::span<const std::int64_t> mesh, std::span<const std::int64_t> coordinate,
                std::span<const Placement> placements) {
  if (mesh.size() != coordinate.size() || mesh.size() != placements.size()) {
    invalid(fmt::format("a mesh of {} dimensions, a coordinate of {} and {} placements", mesh.size(), coordinate.size(),
                        placements.size()));
  }
  for (std::size_t i = 0; i < mesh.size(); ++i) {
    if (coordinate[i] < 0 || coordinate[i] >= mesh[i]) {
      invalid(fmt::format("coordinate {} in a dimension of {} ranks", coordinate[i], mesh[i]));
    }
  }
}

}  // namespace

Box local_box(ShapeView shape, std::span<const std::int64_t> mesh, std::span<const std::int64_t> coordinate,
              std::span<const Placement> placements) {
  check_mesh(mesh, coordinate, placements);
  std::vector<Runs> dims;
  for (const std::int64_t size : shape) {
    if (size < 0) invalid("a shape that no tensor has");
    dims.push_back(size == 0 ? Runs() : Runs{{0, size}});
  }
  std::vector<bool> is_cut(shape.size(), false);
  for (std::size_t i = 0; i < placements.size(); ++i) {
    const Placement& placement = placements[i];
    if (placement.kind == Placement::Kind::replicate) continue;
    if (placement.kind == Placement::Kind::partial) {
      throw Error(Code::unsupported,
                  "a Partial placement: each rank has a summand and none has the tensor; "
                  "redistribute it to Shard or Replicate first");
    }
    const std::size_t dim = checked_dim(placement, shape.size());
    dims[dim] = cut(dims[dim], placement, mesh[i], coordinate[i]);
    is_cut[dim] = true;
  }
  Box box{Shape(shape.size(), 0), Shape(shape.size(), 0)};
  for (std::size_t d = 0; d < shape.size(); ++d) {
    if (dims[d].size() > 1) {
      throw Error(Code::unsupported, fmt::format("a _StridedShard that gives a rank {} separate runs of dimension {}; "
                                                 "redistribute it to Shard first",
                                                 dims[d].size(), d));
    }
    box.size[d] = count(dims[d]);
    box.offset[d] = !dims[d].empty() ? dims[d][0].begin : is_cut[d] ? shape[d] : 0;
  }
  return box;
}

}  // namespace torchkeep
