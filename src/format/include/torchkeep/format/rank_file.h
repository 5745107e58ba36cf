// SPDX-License-Identifier: BSD-3-Clause
// The file that one rank writes of a state that is spread over ranks: a data file of torch.distributed.checkpoint
// (.distcp) and a file of torch.save (.pt) at once.
//
//   +-----------------------------+  an item for each chunk and value: a complete zip of torch.save, which dcp.load
//   | item: data.pkl, data/0, ... |  reads; begins at a multiple of 64, of 4,096 when its bytes are more than 64 KiB
//   +-----------------------------+
//   | item ...                    |
//   +-----------------------------+  the tail, by which a manifest knows the file:
//   | data/n                      |  CRC-32s of the MiBs of long chunks
//   | data.pkl                    |  {name: tensor or value, ..., "torchkeep": what the file is}
//   | byteorder, version          |
//   | directory                   |  of all data/..., those inside items too: what torch.load and unzip read
//   +-----------------------------+
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include <torchkeep/format/chunks.h>
#include <torchkeep/format/plan.h>
#include <torchkeep/format/pt.h>
#include <torchkeep/state/value.h>

namespace torchkeep {

/// A save, and one of the ranks that write it.
struct RankOfSave {
  std::string save;  ///< the save's own id, the same on all ranks and different in every save: it stands in every file
  std::uint32_t rank = 0;
  std::uint32_t world = 1;
};

/// A state as one rank has it.
struct RankState {
  /// The same on all ranks but for the elements of tensors with a Shard, which are this rank's. A tensor without one is
  /// the same on all ranks, as are all values.
  Value state;
  /// What this rank alone has (its random generators): kept under the keys "rank", "3". None: nothing.
  Value own;
};

/// A rank's file, and its end behind all items.
struct FileTail {
  std::string name;           ///< "__3_0.distcp"; empty: the rank has nothing to write and no file
  std::uint64_t size = 0;     ///< of the file
  std::uint64_t begin = 0;    ///< of the tail
  std::uint32_t crc = 0;      ///< CRC-32 of the tail
  std::uint32_t frame = 0;    ///< CRC-32 of what lies before the tail and is no chunk: headers, values, gaps
  std::uint64_t blocks = 0;   ///< where the table of CRCs begins in the file (see BlockCrcs), when it has numbers
  std::uint64_t numbers = 0;  ///< in the table
};

/// A chunk that this rank holds and another one writes, for comparison.
struct ReplicaTable {
  std::vector<std::uint32_t> tensor;  ///< index into the TensorTable
  std::vector<std::int64_t> boxes;    ///< as in ChunkTable
  std::vector<std::uint32_t> crc;     ///< CRC-32 of the elements in row-major order
};

/// Values that are no tensors, and where a rank wrote the items of those that it writes.
struct ValueTable {
  static constexpr std::uint64_t kNowhere = ~std::uint64_t{0};
  NameTable names;
  std::vector<std::uint64_t> hash;    ///< the first 8 bytes of hash(): equal for equal values
  std::vector<std::uint64_t> offset;  ///< of the item in the file; kNowhere: another rank writes it
  std::vector<std::uint64_t> length;  ///< of the item
};

/// What one rank tells of its part of a save: all that a manifest needs of it.
struct RankList {
  RankOfSave of;
  FileTail file;
  TensorTable tensors;          ///< those of the state, then those of this rank alone
  std::size_t own_tensors = 0;  ///< how many are of this rank alone
  ChunkTable chunks;            ///< in the file, in its order
  ReplicaTable replicas;
  ValueTable values;           ///< those of the state, then those of this rank alone
  std::size_t own_values = 0;  ///< how many are of this rank alone
  Value structure;             ///< of rank 0: the state, with tensors of the device meta in place of those in `tensors`
  Value own;                   ///< the same of what this rank alone has
};

/// A rank's file before it is written, and the list that is complete once it was.
struct RankFile {
  Plan plan;  ///< without extents when the rank has nothing to write
  RankList list;
  std::vector<std::uint32_t> payloads;  ///< by row of list.chunks: its payload in the plan
  std::vector<Tensor> replicas;         ///< by row of list.replicas
};

/// "__3_0.distcp"
std::string rank_file_name(std::uint32_t rank);

/// Lays out the file of one rank, with all sizes known. Tensors are written as they are in memory when the plan is
/// carried out. Of a part that several ranks hold (Shard::replicas; a tensor without a Shard is on all) one writes: the
/// one with the fewest bytes so far, which all compute alike; small tensors and values are written by rank 0. Dicts are
/// flattened as torch.distributed.checkpoint does it, so tensors in tuples are values, and every rank must hold them.
/// Tensors whose elements are not plain numbers (quantized, sparse, nested) are values too.
/// Throws Error with the key path: unsupported for what neither .pt nor DCP can hold (objects, tensors without bytes,
/// parts of tensors in tuples, lists and dicts that contain themselves), mismatch for two things of one flattened name,
/// invalid_argument for a Shard that does not fit its tensor or names a rank that is not there.
RankFile plan_rank_file(const RankState& state, const RankOfSave& of);

/// Call it once the plan was written, with its CRCs filled in: sets those of `file.list` and reads the replicas for
/// theirs. Throws what reading a tensor throws.
void complete(RankFile& file);

/// A list as bytes, to be sent to another process (a .pt file), and back. Reading throws Error (corrupt) for bytes that
/// are no list; what it says is not believed before a ManifestBuilder has checked it.
std::string to_bytes(const RankList& list);
RankList rank_list_from(std::string_view bytes);

}  // namespace torchkeep
