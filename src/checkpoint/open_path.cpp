// SPDX-License-Identifier: BSD-3-Clause
// Opens a path, and finds the tensors over a damaged record.
#include "open_path.h"

#include <algorithm>
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <unordered_map>

#include <torchkeep/base/parallel.h>
#include <torchkeep/format/dcp.h>
#include <torchkeep/state/rewrite.h>
#include <torchkeep/state/walk.h>

namespace torchkeep {
namespace {

constexpr std::size_t kNamed = 5;  // tensors that an error names

// The storage whose record the error is about; nullptr when there is none.
const Storage* damaged_storage(const Error& error, const OpenedFile& file) {
  if (error.where().record.empty()) return nullptr;
  const auto found = std::find_if(file.records.begin(), file.records.end(),
                                  [&](const auto& storage) { return storage->record_name() == error.where().record; });
  return found == file.records.end() ? nullptr : found->get();
}

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

std::optional<Folder> find_folder(const std::string& path, Fs& fs) {
  const auto status = fs.status(path);
  if (!status || status->kind != FileKind::directory) return std::nullopt;
  Folder folder;
  folder.name = path;
  while (folder.name.size() > 1 && folder.name.ends_with('/')) folder.name.pop_back();
  folder.files = fs.list(path);
  folder.open = [&fs, name = folder.name](const std::string& file) { return fs.open_read(name + "/" + file); };
  return folder;
}

OpenedFile open_path(const std::string& path, const LoadOptions& options) {
  Fs& fs = options.fs != nullptr ? *options.fs : posix_fs();
  PtReadOptions read;
  read.verify = options.verify;
  read.unknown_classes = options.unknown_classes;
  read.limits = options.limits;
  read.map = options.map;
  const auto found = find_folder(path, fs);
  if (found && is_dcp_folder(found->files)) return open_dcp(*found, read);
  const std::string folder = path.substr(0, path.rfind('/') + 1);
  read.open_sibling = [&fs, folder](const std::string& name) { return fs.open_read(folder + name); };
  return open_file(fs.open_read(path), read);
}

Error with_tensors(const Error& error, const OpenedFile& file) {
  const Storage* damaged = damaged_storage(error, file);
  if (damaged == nullptr) return error;
  std::vector<std::string> names;
  std::size_t count = 0;
  walk(file.value, [&](const Visit& visit) {
    if (!visit.value.is(Kind::tensor)) return Next::inside;
    if (visit.value.as_tensor().storage->identity() == damaged->identity() && ++count <= kNamed) {
      names.push_back(visit.place.parent == nullptr ? "the tensor that is all of the file" : visit.place.text());
    }
    return Next::inside;
  });
  if (count == 0) return error;
  const std::string more = count > kNamed ? fmt::format(" and {} more", count - kNamed) : "";
  return Error(error.code(), fmt::format("{}. It holds: {}{}", error.message(), fmt::join(names, ", "), more),
               error.where())
      .with_errno(error.system_error());
}

void check_records(const OpenedFile& file, unsigned threads) {
  try {
    check_storages(file.records, threads);
    parallel_for(file.checked_storages.size(), threads,
                 [&](std::uint64_t i) { read_through(*file.checked_storages[i]); });
  } catch (const Error& error) {
    throw with_tensors(error, file);
  }
}

Value in_memory(const OpenedFile& file, unsigned threads) {
  if (!file.has_other_storages) return file.value;
  std::unordered_map<const void*, StoragePtr> copies;
  std::vector<std::pair<StoragePtr, StoragePtr*>> work;
  const auto note = [&](const StoragePtr& storage) {
    const auto [copy, is_new] = copies.try_emplace(storage->identity());
    if (is_new) work.emplace_back(storage, &copy->second);
    return storage;
  };
  with_storages(file.value, note);
  parallel_for(work.size(), threads, [&](std::uint64_t i) { *work[i].second = materialize(*work[i].first); });
  return with_storages(file.value, [&](const StoragePtr& storage) { return copies.at(storage->identity()); });
}

}  // namespace torchkeep
