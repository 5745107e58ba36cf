// SPDX-License-Identifier: BSD-3-Clause
// load: a file to a Value in memory, or to one that looks at the mapped file.
#include <torchkeep/checkpoint/checkpoint.h>

#include "threads.h"

namespace torchkeep {

Value load(const std::string& path, const LoadOptions& options) {
  Fs& fs = options.fs != nullptr ? *options.fs : posix_fs();
  PtReadOptions read;
  read.verify = options.verify;
  read.unknown_classes = options.unknown_classes;
  read.limits = options.limits;
  read.map = options.map;
  const PtFile file = open_pt(fs.open_read(path), read);
  if (!options.map) load_storages(file.storages, reading_threads(options.threads));
  return file.value.from_file(path);
}

}  // namespace torchkeep
