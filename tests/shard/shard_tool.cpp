// SPDX-License-Identifier: BSD-3-Clause
// Plays the ranks of a save, one after the other:
//   shard_tool FOLDER SPEC.pt
// SPEC.pt: {"world": n, "state": whole tensors and values, nested, "parts": {flattened name: one of [offset, size,
// replicas] for each rank; None: the tensor is no part}, "own": what each rank alone has, or None for each}.
#include <iostream>

#include <torchkeep/checkpoint/sharded.h>
#include <torchkeep/files/publish.h>
#include <torchkeep/state/rewrite.h>
#include <torchkeep/state/walk.h>

using namespace torchkeep;

namespace {

std::vector<std::int64_t> numbers(const Value& list) {
  std::vector<std::int64_t> result;
  for (const Value& number : list.elements()) result.push_back(*number.as_integer().to_int64());
  return result;
}

Value part_of(const Tensor& whole, const Value& part) {
  Tensor local = whole;
  const auto offset = numbers(part[std::int64_t{0}]);
  local.sizes = numbers(part[std::int64_t{1}]);
  if (local.numel() > 0) {
    for (std::size_t d = 0; d < offset.size(); ++d) local.storage_offset += offset[d] * whole.strides[d];
  }
  local.shard = std::make_shared<const Shard>(Shard{whole.sizes, offset, numbers(part[std::int64_t{2}])});
  return Value(local);
}

Value state_of_rank(const Value& spec, std::int64_t rank) {
  const Value parts = spec["parts"];
  return rewrite(spec["state"], [&](const Visit& visit) -> Edit {
    if (!visit.value.is(Kind::tensor)) return {};
    const auto ranks = parts.find(Value::string(visit.place.text()));
    if (!ranks || (*ranks)[rank].is_none()) return {};
    return {Edit::What::replace, part_of(visit.value.as_tensor(), (*ranks)[rank])};
  });
}

void write_folder(const std::string& folder, const Value& spec) {
  const auto world = static_cast<std::uint32_t>(*spec["world"].as_integer().to_int64());
  const std::string save = new_save_id();
  make_directories(posix_fs(), folder, false);
  ManifestBuilder builder({save, 0, world});
  for (std::uint32_t rank = 0; rank < world; ++rank) {
    RankFile file = plan_rank_file({state_of_rank(spec, rank), spec["own"][std::int64_t{rank}]}, {save, rank, world});
    save_rank_file(file, folder, {.durable = false});
    builder.add(rank_list_from(to_bytes(file.list)));  // as it comes from another process
  }
  const auto manifest = std::make_shared<const Manifest>(std::move(builder).finish());
  save_manifest(manifest, folder, {.durable = false});
  save_dcp_metadata(*manifest, folder, {.durable = false});
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 3) return 2;
  try {
    write_folder(argv[1], load(argv[2]));
  } catch (const Error& error) {
    std::cerr << error.what() << std::endl;
    return 1;
  }
}
