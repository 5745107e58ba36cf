// SPDX-License-Identifier: BSD-3-Clause
// The list of a rank as bytes.
#include <cstring>
#include <memory>

#include <torchkeep/base/crc32.h>
#include <torchkeep/format/open_file.h>
#include <torchkeep/format/rank_file.h>

#include "columns.h"

namespace torchkeep {
namespace {

using namespace dcp;

/// The whole file of a plan that is small.
std::string bytes_of(Plan plan) {
  std::vector<std::string> payloads;
  std::vector<std::uint32_t> crcs;
  for (const StoragePtr& payload : plan.payloads) {
    payloads.emplace_back(static_cast<std::size_t>(payload->nbytes()), '\0');
    payload->read(0, std::as_writable_bytes(std::span(payloads.back())));
    crcs.push_back(crc32(as_bytes(payloads.back())));
  }
  for (const CrcPatch& patch : plan.patches)
    std::memcpy(plan.literals.data() + patch.literal_offset, &crcs[patch.payload], sizeof(std::uint32_t));
  std::string bytes;
  bytes.reserve(static_cast<std::size_t>(plan.file_size));
  for (const Extent& extent : plan.extents) {
    if (extent.is_payload)
      bytes += payloads[extent.index];
    else
      bytes.append(plan.literals, extent.index, extent.size);
  }
  return bytes;
}

}  // namespace

std::string to_bytes(const RankList& list) {
  const std::shared_ptr<const void> nothing;  // the list outlives the bytes' making
  const FileTail& file = list.file;
  const auto number = [](std::uint64_t n) { return Value(static_cast<std::int64_t>(n)); };
  Value all{{"format", "rank list"},
            {"version", 1},
            {"save", list.of.save},
            {"rank", number(list.of.rank)},
            {"world", number(list.of.world)},
            {"file", Value{{"name", file.name},
                           {"size", number(file.size)},
                           {"begin", number(file.begin)},
                           {"crc", number(file.crc)},
                           {"frame", number(file.frame)},
                           {"blocks", number(file.blocks)},
                           {"numbers", number(file.numbers)}}},
            {"tensors", to_table(list.tensors, nothing)},
            {"own_tensors", number(list.own_tensors)},
            {"chunks", to_table(list.chunks, nothing)},
            {"replicas", Value{{"tensor", to_column(list.replicas.tensor, nothing)},
                               {"boxes", to_column(list.replicas.boxes, nothing)},
                               {"crc", to_column(list.replicas.crc, nothing)}}},
            {"values", to_table(list.values, nothing)},
            {"own_values", number(list.own_values)},
            {"structure", list.structure},
            {"own", list.own}};
  return bytes_of(plan_pt(all));
}

RankList rank_list_from(std::string_view bytes) {
  const auto file = std::make_shared<MemoryReadAt>(std::string(bytes), "a rank's list");
  PtReadOptions options;
  options.unknown_classes = UnknownClasses::refuse;
  const Value all = read_all(open_pt(file, options), 1);
  RankList list;
  if (text_field(all, "format") != "rank list" || integer_field(all, "version") != 1)
    throw Error(Code::unsupported, "not a rank's list of version 1: do all ranks run the same torchkeep?");
  constexpr std::uint64_t kMostRanks = ~std::uint32_t{0};
  list.of = {text_field(all, "save"), static_cast<std::uint32_t>(count_field(all, "rank", kMostRanks)),
             static_cast<std::uint32_t>(count_field(all, "world", kMostRanks))};
  const Value tail = field(all, "file");
  list.file = {text_field(tail, "name"),
               count_field(tail, "size"),
               count_field(tail, "begin"),
               static_cast<std::uint32_t>(count_field(tail, "crc", ~std::uint32_t{0})),
               static_cast<std::uint32_t>(count_field(tail, "frame", ~std::uint32_t{0})),
               count_field(tail, "blocks"),
               count_field(tail, "numbers")};
  list.tensors = tensors_from(field(all, "tensors"));
  list.own_tensors = count_field(all, "own_tensors", list.tensors.size());
  list.chunks = chunks_from(field(all, "chunks"), list.tensors);
  const Value replicas = field(all, "replicas");
  list.replicas = {column_field<std::uint32_t>(replicas, "tensor"), column_field<std::int64_t>(replicas, "boxes"),
                   column_field<std::uint32_t>(replicas, "crc")};
  check_rows(list.tensors, list.replicas.tensor, list.replicas.boxes);
  if (list.replicas.crc.size() != list.replicas.tensor.size())
    throw Error(Code::corrupt, "replicas without their CRC-32s");
  list.values = values_from(field(all, "values"));
  list.own_values = count_field(all, "own_values", list.values.names.size());
  list.structure = field(all, "structure");
  list.own = field(all, "own");
  return list;
}

}  // namespace torchkeep
