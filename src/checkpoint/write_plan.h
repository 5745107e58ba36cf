// SPDX-License-Identifier: BSD-3-Clause
// Writing the extents of a Plan.
#pragma once

#include <torchkeep/files/fs.h>
#include <torchkeep/format/plan.h>

namespace torchkeep {

/// Writes all extents from front to back and computes the CRC of each payload on the way, while its bytes are in the
/// cache; the literals of `plan` receive them.
void write_plan(Plan& plan, File& file);

}  // namespace torchkeep
