// SPDX-License-Identifier: BSD-3-Clause
// What the module offers, by source file.
#pragma once

#include "python.h"

namespace torchkeep::python {

/// save, load, look, verify.
void bind_files(nb::module_& module);
/// What a run directory holds.
void bind_directory(nb::module_& module);
void bind_sampler(nb::module_& module);
void bind_engine(nb::module_& module);
void bind_ranks(nb::module_& module);

}  // namespace torchkeep::python
