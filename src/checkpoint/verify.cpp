// SPDX-License-Identifier: BSD-3-Clause
// verify: a file, checked to the last byte without being loaded.
#include <array>
#include <span>

#include <torchkeep/checkpoint/checkpoint.h>

namespace torchkeep {

void verify(const std::string& path, const LoadOptions& options) {
  Fs& fs = options.fs != nullptr ? *options.fs : posix_fs();
  PtReadOptions read;
  read.unknown_classes = options.unknown_classes;
  read.limits = options.limits;
  const PtFile file = open_pt(fs.open_read(path), read);
  for (const auto& storage : file.storages) {
    std::array<std::byte, 1> part{};
    if (storage->nbytes() == 0)
      load_storages(std::span(&storage, 1));  // only its header: there is nothing to keep
    else
      storage->read(0, part);  // the first read of a part checks the whole record, block by block
  }
}

}  // namespace torchkeep
