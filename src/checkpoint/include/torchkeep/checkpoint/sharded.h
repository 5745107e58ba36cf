// SPDX-License-Identifier: BSD-3-Clause
// Writing the folder of a state that is spread over ranks: the files that each rank and the leader write, and all of
// them by one process. Nothing here waits for another process.
#pragma once

#include <memory>
#include <string>

#include <torchkeep/checkpoint/checkpoint.h>
#include <torchkeep/checkpoint/export.h>
#include <torchkeep/format/manifest.h>
#include <torchkeep/format/rank_file.h>

namespace torchkeep {

/// Writes a rank's file to `file`, which is empty, from front to back, and completes its list (complete()). Does not
/// sync. Nothing is written when the rank has nothing to write.
void write_rank_file(RankFile& rank_file, File& file, const WriteProgress& on_progress = nullptr);

/// Publishes a rank's file as `folder`/<its name> under the options of save(), and completes its list. No file appears
/// when the rank has nothing to write.
void save_rank_file(RankFile& rank_file, const std::string& folder, const SaveOptions& options = {},
                    const WriteProgress& on_progress = nullptr);

/// Publishes `folder`/manifest.pt.
void save_manifest(const std::shared_ptr<const Manifest>& manifest, const std::string& folder,
                   const SaveOptions& options = {});

/// Publishes `folder`/.metadata, by which torch.distributed.checkpoint reads the folder, in little memory.
void save_dcp_metadata(const Manifest& manifest, const std::string& folder, const SaveOptions& options = {});

/// An id for a save: 32 hexadecimal digits that no other save has.
std::string new_save_id();

struct FolderOptions {
  /// Write .metadata too, for torch.distributed.checkpoint.
  bool dcp = true;
  SaveOptions save = {};
};

/// Writes the whole `state` as a folder of one rank, which is created when it is missing; .metadata, or manifest.pt
/// without it, comes last. `save` is the id of the save. Throws what save() throws, and Error (invalid_argument) when
/// the folder is not empty: the files of two saves in one folder would be no checkpoint.
void save_folder(const Value& state, const std::string& folder, const std::string& save,
                 const FolderOptions& options = {}, const WriteProgress& on_progress = nullptr);

}  // namespace torchkeep
