// SPDX-License-Identifier: BSD-3-Clause
// torchkeep._core: the extension module under the package torchkeep.
#include <torchkeep/base/memory.h>

#include "errors.h"
#include "files.h"

NB_MODULE(_core, module) {
  using namespace torchkeep::python;
  nb::set_leak_warnings(false);  // PyTorch's names are kept until the process ends
  register_errors();
  module.attr("__version__") = TORCHKEEP_VERSION;
  module.def("usable_memory", [] { return torchkeep::usable_memory(); });
  bind_files(module);
  bind_directory(module);
  bind_sampler(module);
  bind_engine(module);
  bind_ranks(module);
}
