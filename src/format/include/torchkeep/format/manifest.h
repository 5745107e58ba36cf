// SPDX-License-Identifier: BSD-3-Clause
// manifest.pt: what is in the folder of a state that is spread over ranks, where, and with which checksums.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <torchkeep/base/bytes.h>
#include <torchkeep/format/chunks.h>
#include <torchkeep/format/rank_file.h>

namespace torchkeep {

inline constexpr std::string_view kManifestName = "manifest.pt";

/// A checkpoint of many ranks as a whole.
struct Manifest {
  std::string save;
  std::uint32_t world = 1;
  /// The state, with tensors of the device meta in place of those in `tensors`, in their order.
  Value structure;
  /// What single ranks have, by rank; the same, of the tensors behind those of the state.
  std::vector<std::pair<std::uint32_t, Value>> own;
  TensorTable tensors;
  ChunkTable chunks;  ///< file by file, in the order of each file
  struct File {
    FileTail tail;
    std::uint32_t rank = 0;
    std::uint64_t chunks = 0;  ///< how many of `chunks` it holds
  };
  std::vector<File> files;
  /// Values, in the order of the structure and of `own`; `file` by row.
  ValueTable values;
  std::vector<std::uint32_t> value_file;
};

/// Makes a manifest of the lists of all ranks. Memory: the manifest, and one list.
class ManifestBuilder {
 public:
  explicit ManifestBuilder(const RankOfSave& leader);
  ~ManifestBuilder();
  ManifestBuilder(ManifestBuilder&&) noexcept;
  ManifestBuilder& operator=(ManifestBuilder&&) noexcept;

  /// Rank 0's list first, then the others in ascending order of their ranks. Throws Error (mismatch), naming the rank
  /// and the key, for a list of another save or world, and for another dtype, shape, set of tensors or value than rank
  /// 0 has; (invalid_argument) for a rank that is not the next; (corrupt) for rows that contradict each other.
  void add(const RankList& list);
  /// Throws Error (mismatch) that lists every tensor that is not covered exactly once, with the ranks, and every one of
  /// which ranks hold different copies.
  Manifest finish() &&;

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

/// The layout of manifest.pt, a file of torch.save that `manifest` is kept alive for.
Plan plan_manifest(std::shared_ptr<const Manifest> manifest);

/// Reads a manifest and checks all that can be checked without the other files: names, numbers of rows, that chunks lie
/// inside their tensors and files, that they cover each tensor exactly once. Throws Error (corrupt, refused).
Manifest read_manifest(const std::shared_ptr<const ReadAt>& file, const PtReadOptions& options = {});

/// Writes DCP's .metadata of the same folder (protocol 2, `checkpoint_id` None), front to back, in memory that does not
/// depend on the number of chunks. The same manifest gives the same bytes.
void write_dcp_metadata(const Manifest& manifest, const std::function<void(Bytes)>& write);

}  // namespace torchkeep
