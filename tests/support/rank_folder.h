// SPDX-License-Identifier: BSD-3-Clause
// Folders that ranks of ours save, in memory.
#pragma once

#include <map>
#include <string>
#include <vector>

#include <torchkeep/format/dcp.h>
#include <torchkeep/format/manifest.h>
#include <torchkeep/format/rank_file.h>

namespace torchkeep::testing {

/// Files by name, and how many bytes of each were read since it was saved.
struct RankFolder {
  std::map<std::string, std::string> files;
  std::shared_ptr<std::map<std::string, std::uint64_t>> bytes_read =
      std::make_shared<std::map<std::string, std::uint64_t>>();

  /// Looks at `files`, which must outlive it.
  Folder folder() const;
  /// Writes manifest.pt and .metadata anew.
  void set_manifest(Manifest manifest);
  Manifest manifest() const;
};

/// The bytes of the file that a plan describes, and its list complete.
std::string write(RankFile& file);
std::string write(Plan plan);

/// All ranks, one after the other.
RankFolder save_ranks(const std::vector<RankState>& ranks, const std::string& save = "one");

/// The part of a whole tensor that a rank holds.
Tensor part_of(const Tensor& whole, const Box& box, std::vector<std::int64_t> replicas = {});

/// {"w": [6, 4] float32 of 0 to 23, rows 0 to 3 on rank 0 and 4 and 5 on rank 1; "bias": on both; "n": 7}, and of each
/// rank alone {"seed": its number, "rng": 3 bytes}.
RankFolder sample_rank_folder(const std::string& save = "one", float first = 0);

}  // namespace torchkeep::testing
