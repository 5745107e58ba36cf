// SPDX-License-Identifier: BSD-3-Clause
// load: a file to a Value in memory.
#include <torchkeep/checkpoint/checkpoint.h>

namespace torchkeep {

Value load(const std::string& path, const LoadOptions& options) {
  Fs& fs = options.fs != nullptr ? *options.fs : posix_fs();
  PtReadOptions read;
  read.verify = options.verify;
  read.unknown_classes = options.unknown_classes;
  read.limits = options.limits;
  const PtFile file = open_pt(fs.open_read(path), read);
  load_storages(file.storages);
  return file.value.from_file(path);
}

}  // namespace torchkeep
