// SPDX-License-Identifier: BSD-3-Clause
// Opens a path, and finds the tensors over a damaged record.
#include "open_path.h"

#include <algorithm>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <torchkeep/state/walk.h>

#include "folder.h"

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

}  // namespace

OpenedFile open_path(const std::string& path, const LoadOptions& options) {
  if (auto folder = open_dcp_path(path, options)) return *std::move(folder);
  Fs& fs = options.fs != nullptr ? *options.fs : posix_fs();
  PtReadOptions read;
  read.verify = options.verify;
  read.unknown_classes = options.unknown_classes;
  read.limits = options.limits;
  read.map = options.map;
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
    check_other_storages(file, threads);
  } catch (const Error& error) {
    throw with_tensors(error, file);
  }
}

}  // namespace torchkeep
