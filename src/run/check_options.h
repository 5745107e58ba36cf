// SPDX-License-Identifier: BSD-3-Clause
// Options that make no sense are refused before anything is done.
#pragma once

#include <torchkeep/run/options.h>

namespace torchkeep {

/// The options with what they leave to the run filled in. Throws Error (invalid_argument).
RunOptions checked(RunOptions options);

}  // namespace torchkeep
