// SPDX-License-Identifier: BSD-3-Clause
// Python objects -> Value.
#pragma once

#include <optional>

#include <torchkeep/state/value.h>

#include "python.h"
#include "tensor_reader.h"

namespace torchkeep::python {

/// Plain data and tensors as a Value. Tensors look at the live memory, which the Value keeps alive; tensors of other
/// devices are copied. Shared objects and storages stay shared. Throws Error (unsupported, with the key path) for what
/// PyTorch's safe loader would not read. Only exact types are taken, so no code of the object's class runs.
Value to_value(nb::handle object, const ReaderOptions& options = {});

/// For ReaderOptions::device_copies, which says what it is: it holds at most `limit` bytes (a quarter of the memory
/// that this process may use) until it is dropped.
nb::object device_copies(std::optional<std::uint64_t> limit = std::nullopt);

}  // namespace torchkeep::python
