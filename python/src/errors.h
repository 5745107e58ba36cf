// SPDX-License-Identifier: BSD-3-Clause
// torchkeep::Error <-> torchkeep.Error.
#pragma once

#include <torchkeep/base/error.h>

#include "python.h"

namespace torchkeep::python {

/// The Python exception that stands for `error`, with the exception that led to it as its __cause__.
nb::object exception_of(const Error& error);
/// Sets the Python exception that stands for `error`.
void set_python_error(const Error& error);

/// The Error that stands for a caught Python exception: a torchkeep.Error as it was, any other as `fallback` with its
/// type's name. The exception itself is its cause.
Error error_from_python(const nb::python_error& caught, Code fallback);

/// Makes errors of the core Python exceptions from now on.
void register_errors();

}  // namespace torchkeep::python
