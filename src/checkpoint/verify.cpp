// SPDX-License-Identifier: BSD-3-Clause
// verify: a file, checked to the last byte without being loaded.
#include <torchkeep/checkpoint/checkpoint.h>

#include "threads.h"

namespace torchkeep {

void verify(const std::string& path, const LoadOptions& options) {
  Fs& fs = options.fs != nullptr ? *options.fs : posix_fs();
  PtReadOptions read;
  read.unknown_classes = options.unknown_classes;
  read.limits = options.limits;
  const PtFile file = open_pt(fs.open_read(path), read);
  check_storages(file.storages, reading_threads(options.threads));
}

}  // namespace torchkeep
