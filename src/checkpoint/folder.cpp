// SPDX-License-Identifier: BSD-3-Clause
// Folders of torch.distributed.checkpoint, taken like files.
#include "folder.h"

#include <algorithm>

#include <torchkeep/base/parallel.h>
#include <torchkeep/checkpoint/folder.h>
#include <torchkeep/files/stores.h>

namespace torchkeep {
namespace {

constexpr std::uint64_t kBlock = std::uint64_t{1} << 20;  // read at once to check a storage

// All of it, from front to back.
void read_through(const Storage& storage) {
  const std::unique_ptr<StorageReader> reader = storage.reader();
  std::vector<std::byte> block(static_cast<std::size_t>(std::min(kBlock, storage.nbytes())));
  for (std::uint64_t done = 0; done < storage.nbytes(); done += block.size()) {
    block.resize(static_cast<std::size_t>(std::min(kBlock, storage.nbytes() - done)));
    reader != nullptr ? reader->read(block) : storage.read(done, block);
  }
}

}  // namespace

std::optional<Folder> find_dcp_folder(const std::string& path, Fs& fs) {
  const auto status = fs.status(path);
  if (!status || status->kind != FileKind::directory) return std::nullopt;
  Folder folder;
  folder.name = path;
  while (folder.name.size() > 1 && folder.name.ends_with('/')) folder.name.pop_back();
  folder.files = fs.list(path);
  folder.open = [&fs, name = folder.name](const std::string& file) { return fs.open_read(name + "/" + file); };
  return is_dcp_folder(folder.files) ? std::optional(std::move(folder)) : std::nullopt;
}

std::optional<OpenedFile> open_dcp_path(const std::string& path, const LoadOptions& options) {
  Fs& fs = options.fs != nullptr ? *options.fs : any_store();
  const auto folder = find_dcp_folder(path, fs);
  if (!folder) return std::nullopt;
  PtReadOptions read;
  read.verify = options.verify;
  read.unknown_classes = options.unknown_classes;
  read.keep_builtin_classes = options.keep_builtin_classes;
  read.limits = options.limits;
  OpenedFile opened = open_dcp(*folder, read);
  // Like a mapped file's, tensors are read when somebody wants their bytes.
  if (options.map) opened.has_other_storages = false;
  return opened;
}

void check_other_storages(const OpenedFile& file, unsigned threads) {
  parallel_for(file.checked_storages.size(), threads,
               [&](std::uint64_t i) { read_through(*file.checked_storages[i]); });
}

}  // namespace torchkeep
