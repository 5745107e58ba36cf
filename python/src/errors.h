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

/// True when a caught exception is no failure of the code that it came out of: KeyboardInterrupt and SystemExit, and
/// what a signal handler raised in the middle of it. Then that is the Python exception that is set.
bool set_interruption(const nb::python_error& caught);

/// Makes errors of the core Python exceptions from now on.
void register_errors();

}  // namespace torchkeep::python
