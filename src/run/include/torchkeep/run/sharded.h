// SPDX-License-Identifier: BSD-3-Clause
// A state that is spread over ranks as one folder, which all ranks write and read together (docs/distributed.md).
#pragma once

#include <string>

#include <torchkeep/checkpoint/sharded.h>
#include <torchkeep/ranks/group.h>
#include <torchkeep/state/value.h>

namespace torchkeep {

/// Saves with all other ranks of the group, each of which calls this with its part of the state: one file of every
/// rank, manifest.pt, and .metadata for torch.distributed.checkpoint. The folder appears whole, by one rename, when all
/// files are on the disk, or not at all. It must not exist; the one above it must.
///
/// Throws Error on every rank when it was abandoned, saying why and at which rank: parts that do not cover a tensor,
/// copies that differ, a full disk, a rank that does not come before the deadline. On a rank that did not hear how it
/// ended, the folder decides.
void save_sharded(const RankState& state, const std::string& folder, RankGroup& group,
                  const FolderOptions& options = {});

/// Loads with all other ranks of the group, whose number may be another than at the save. The result is what load()
/// gives, but for the tensors that have a Shard under the same key path in `like`: of those it has the part that `like`
/// has. Every rank reads what it needs and checks it; one that cannot makes the call throw on all ranks, with its
/// reason: Error mismatch (all of `like` that does not fit, in one list), corrupt, not_found. Ranks that see different
/// folders are named.
Value load_sharded(const std::string& folder, const Value& like, RankGroup& group, const LoadOptions& options = {});

/// `checkpoint`, as open_checkpoint() or load() gives it, with the parts of its tensors that `like` asks for, in
/// memory. Throws Error (mismatch) as load_sharded() does.
Value cut_to(const Value& checkpoint, const Value& like);

}  // namespace torchkeep
