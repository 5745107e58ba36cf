// SPDX-License-Identifier: BSD-3-Clause
// A Value without the bytes that none of its tensors looks at.
#pragma once

#include <torchkeep/state/value.h>

namespace torchkeep {

/// `value` with each storage cut to the bytes between the first and the last element of any of its tensors; nothing is
/// copied, and tensors that share a storage still do. A tensor that is alone on its storage and leaves gaps between its
/// elements becomes a contiguous copy. Elements, shapes and dtypes stay; offsets and strides may change.
Value compact(const Value& value);

}  // namespace torchkeep
