// SPDX-License-Identifier: BSD-3-Clause
// Writing other files than checkpoints, as safely as save() writes those; and writing any to a stream.
#pragma once

#include <functional>
#include <string>

#include <torchkeep/base/bytes.h>
#include <torchkeep/checkpoint/checkpoint.h>
#include <torchkeep/format/plan.h>

namespace torchkeep {

/// Publishes the file that `plan` describes, atomically: `path` holds the old file or the complete new one. Throws what
/// save() throws, but for the layout.
void save_plan(Plan plan, const std::string& path, const SaveOptions& options = {});

/// Hands the bytes of the file to `write`, front to back.
void stream_plan(Plan plan, const std::function<void(Bytes)>& write);

}  // namespace torchkeep
