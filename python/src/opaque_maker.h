// SPDX-License-Identifier: BSD-3-Clause
// Opaque values -> torchkeep.Opaque, or an object of one of Python's own data classes.
#pragma once

#include <span>

#include <torchkeep/state/value.h>

#include "python.h"

namespace torchkeep::python {

/// The object without its parts, which it can contain itself; None where it can only be made from its parts.
nb::object begin_opaque(const Value& value);

/// The object `made` with its parts: args, kwargs, state, the list items, then keys and values of the dict items.
nb::object finish_opaque(const Value& value, const nb::object& made, std::span<const nb::object> parts);

}  // namespace torchkeep::python
