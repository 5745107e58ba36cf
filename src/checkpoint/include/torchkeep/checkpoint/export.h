// SPDX-License-Identifier: BSD-3-Clause
// Committing the file that a plan describes, as save() does it; and writing it to a stream.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include <torchkeep/base/bytes.h>
#include <torchkeep/checkpoint/checkpoint.h>
#include <torchkeep/checkpoint/commit.h>
#include <torchkeep/format/plan.h>

namespace torchkeep {

using WriteProgress = Progress;

/// Begins the file that `plan` describes under a hidden name beside `path`: step 1 of the commit protocol, whose others
/// are commit(). `compact_views` means nothing here. Throws what save() throws, but for the layout.
std::unique_ptr<PendingCheckpoint> begin_plan(Plan plan, const std::string& path, const SaveOptions& options = {});

/// Commits the file that `plan` describes: `path` holds the old file or the complete new one. Throws what begin_plan()
/// and commit() throw.
void save_plan(Plan plan, const std::string& path, const SaveOptions& options = {}, const Progress& on_progress = {},
               const std::function<void()>& before_commit = {});

/// Hands the bytes of the file to `write`, front to back.
void stream_plan(Plan plan, const std::function<void(Bytes)>& write);

}  // namespace torchkeep
