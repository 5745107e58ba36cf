// SPDX-License-Identifier: BSD-3-Clause
// Writing the extents of a Plan.
#pragma once

#include <torchkeep/checkpoint/export.h>
#include <torchkeep/files/fs.h>
#include <torchkeep/format/plan.h>

namespace torchkeep {

/// Writes all extents from front to back and computes the CRC of each payload on the way, while its bytes are in the
/// cache; the literals of `plan` receive them. `on_progress` is told after each block.
void write_plan(Plan& plan, File& file, const Progress& on_progress = {});

/// Publishes the file that `write` writes, which is the plan's, under the options of save().
void publish_plan(const Plan& plan, const std::string& path, const SaveOptions& options,
                  const std::function<void(File&)>& write);

}  // namespace torchkeep
