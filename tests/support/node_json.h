// SPDX-License-Identifier: BSD-3-Clause
// A Value as a tree of JSON nodes, to be compared with what other readers say about the same file.
#pragma once

#include <string>
#include <string_view>

#include <torchkeep/state/value.h>

namespace torchkeep::testing {

/// {"t": "dict", "id": 0, "v": [[key, value], ...]}, {"t": "tensor", "dtype": ..., "sha256": ...}: one object per node.
/// An object met again is {"t": "ref", "id": ...}; equal "storage" means shared storage.
std::string node_json(const Value& value);

/// UTF-8 text as a JSON string; lone surrogates become escapes.
std::string json_text(std::string_view text);

}  // namespace torchkeep::testing
