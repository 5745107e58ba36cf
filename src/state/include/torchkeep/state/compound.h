// SPDX-License-Identifier: BSD-3-Clause
// Tensors made of tensors, whose numbers say where others lie.
#pragma once

#include <torchkeep/state/value.h>

namespace torchkeep {

/// Calls validate() of every sparse and nested tensor in the value; the error names the first bad one's key path. Reads
/// their indices, which must be readable by now.
void check_compounds(const Value& value);

}  // namespace torchkeep
