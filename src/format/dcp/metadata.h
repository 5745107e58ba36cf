// SPDX-License-Identifier: BSD-3-Clause
// What .metadata says, as plain structs.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include <torchkeep/format/pt.h>
#include <torchkeep/shard/box.h>
#include <torchkeep/state/dtype.h>

namespace torchkeep::dcp {

/// Where an item lies: a range of a data file.
struct ItemPlace {
  static constexpr std::uint32_t kNowhere = ~std::uint32_t{0};
  std::uint32_t file = kNowhere;  ///< index into Metadata::files
  std::uint32_t transforms = 0;   ///< 1 + index into Metadata::transforms; 0: none
  std::uint64_t offset = 0;       ///< bytes
  std::uint64_t length = 0;       ///< bytes
};

/// A key of a dict, or an index of a list.
using PathStep = std::variant<std::string, std::int64_t>;
using Path = std::vector<PathStep>;

/// Where the bytes of a chunk lie, row-major, where that is known without a look into its item: of a manifest.
struct ChunkPlace {
  std::uint64_t offset = 0;  ///< in the data file
  std::uint32_t crc = 0;     ///< of all of them
  std::uint64_t number = 0;  ///< of its first MiB, in the file's table of CRCs; BlockCrcs::kNone
};

/// A tensor or a value under its flattened name.
struct MetaEntry {
  std::string fqn;
  std::optional<Path> path;  ///< where it stood in the nested state; none: under its name at the top
  bool is_tensor = false;
  DType dtype = DType::float32;
  Shape shape;
  BoxList chunks;
  std::vector<ItemPlace> places;  ///< of each chunk; one for a value
  std::vector<ChunkPlace> known;  ///< of each chunk; empty where only the items know
};

struct Metadata {
  std::vector<MetaEntry> entries;       ///< in the order of the file
  std::vector<std::string> files;       ///< names of data files: plain ones, in this folder
  std::vector<std::string> transforms;  ///< what must be undone to read an item: "stream.zstd/1"
  std::vector<std::string> notes;       ///< good to know, no damage
  /// What several ranks saved for themselves: each but the one that is read.
  struct Replica {
    std::size_t entry;  ///< index into `entries`
    std::size_t item;   ///< which of the entry's places holds the one that is read
    std::int64_t rank;
    ItemPlace place;
  };
  std::vector<Replica> replicas;
};

/// Reads a .metadata: the pickle of torch.distributed.checkpoint.metadata.Metadata or of a subclass, of torch 2.0 to
/// 2.13. Throws Error (corrupt, refused, unsupported) with the byte offset or the name of the entry.
Metadata read_metadata(const ReadAt& file, const PtReadOptions& options);

/// One Metadata out of those that each rank wrote for itself (use_collectives=False). Throws Error (corrupt) when they
/// contradict each other.
Metadata merge_ranks(std::vector<std::pair<std::int64_t, Metadata>> ranks, const std::string& folder);

}  // namespace torchkeep::dcp
