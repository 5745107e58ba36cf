// SPDX-License-Identifier: BSD-3-Clause
// The functions on files: save, load, look, verify.
#pragma once

#include "python.h"

namespace torchkeep::python {

void bind_files(nb::module_& module);

}  // namespace torchkeep::python
