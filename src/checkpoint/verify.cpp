// SPDX-License-Identifier: BSD-3-Clause
// verify: a file, checked to the last byte without being loaded.
#include "open_path.h"
#include "threads.h"

namespace torchkeep {

void verify(const std::string& path, const LoadOptions& options) {
  LoadOptions checked = options;
  checked.verify = true;
  const OpenedFile file = open_path(path, checked);
  try {
    check_storages(file.records, reading_threads(options.threads));  // no other format has checksums
  } catch (const Error& error) {
    throw with_tensors(error, file);
  }
}

}  // namespace torchkeep
