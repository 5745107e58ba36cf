// SPDX-License-Identifier: BSD-3-Clause
// verify: a file, checked to the last byte without being loaded.
#include "open_path.h"
#include "threads.h"

namespace torchkeep {

void verify(const std::string& path, const LoadOptions& options) {
  LoadOptions checked = options;
  checked.verify = true;
  check_records(open_path(path, checked), reading_threads(options.threads));
}

}  // namespace torchkeep
