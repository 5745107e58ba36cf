// SPDX-License-Identifier: BSD-3-Clause
// Writing other files than checkpoints, as safely as save() writes those; and writing any to a stream.
#pragma once

#include <cstdint>
#include <functional>
#include <string>

#include <torchkeep/base/bytes.h>
#include <torchkeep/checkpoint/checkpoint.h>
#include <torchkeep/format/plan.h>

namespace torchkeep {

/// Called about once per MiB with bytes written and bytes in all. What it throws ends the writing.
using WriteProgress = std::function<void(std::uint64_t, std::uint64_t)>;

/// Publishes the file that `plan` describes as save() does, atomically: `path` holds the old file or the complete new
/// one. `compact_views` means nothing here. Throws what save() throws, but for the layout; and what `on_progress`
/// throws, after which everything is as it was before.
void save_plan(Plan plan, const std::string& path, const SaveOptions& options = {},
               const WriteProgress& on_progress = nullptr);

/// Hands the bytes of the file to `write`, front to back.
void stream_plan(Plan plan, const std::function<void(Bytes)>& write);

}  // namespace torchkeep
