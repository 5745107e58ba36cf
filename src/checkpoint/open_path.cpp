// SPDX-License-Identifier: BSD-3-Clause
// Opens a path, and finds the tensors over a damaged record.
#include "open_path.h"

#include <algorithm>
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <set>

#include <torchkeep/checkpoint/convert.h>
#include <torchkeep/format/check.h>
#include <torchkeep/format/member.h>
#include <torchkeep/state/walk.h>

#include "folder.h"

namespace torchkeep {
namespace {

// The storage whose record the error is about; nullptr when there is none.
const Storage* damaged_storage(const Error& error, const OpenedFile& file) {
  if (error.where().record.empty()) return nullptr;
  const auto found = std::find_if(file.records.begin(), file.records.end(),
                                  [&](const auto& storage) { return storage->record_name() == error.where().record; });
  return found == file.records.end() ? nullptr : found->get();
}

void collect(const Tensor& tensor, std::set<const Storage*>& storages) {
  storages.insert(tensor.storage.get());
  if (tensor.quantizer == nullptr) return;
  for (const auto& part : {tensor.quantizer->scales, tensor.quantizer->zero_points}) {
    if (part != nullptr) collect(*part, storages);
  }
}

// What was asked for, and the records of that.
OpenedFile choose(OpenedFile file, const std::string& name, const LoadOptions& options) {
  if (options.only.empty() && !options.drop_objects) return file;
  file.value = file.value.from_file(name);
  if (!options.only.empty()) file.value = keep_parts(file.value, options.only);
  if (options.drop_objects) drop_objects(file.value, options.keep_builtin_classes);
  file.records = records_of(file, file.value);
  return file;
}

PtReadOptions read_options(const LoadOptions& options) {
  PtReadOptions read;
  read.verify = options.verify;
  read.unknown_classes = options.unknown_classes;
  read.keep_builtin_classes = options.keep_builtin_classes;
  read.limits = options.limits;
  read.map = options.map;
  return read;
}

}  // namespace

OpenedPath open_bytes(const std::string& path, Fs* chosen) {
  Fs& fs = chosen != nullptr ? *chosen : posix_fs();
  const std::string folder = path.substr(0, path.rfind('/') + 1);
  return {open_member(path, [&fs](const std::string& name) { return fs.open_read(name); }),
          [&fs, folder](const std::string& name) { return fs.open_read(folder + name); }};
}

OpenedFile open_structure(const std::string& path, const LoadOptions& options) {
  if (auto folder = open_dcp_path(path, options)) return choose(*std::move(folder), path, options);
  OpenedPath opened = open_bytes(path, options.fs);
  PtReadOptions read = read_options(options);
  read.open_sibling = std::move(opened.open_sibling);
  return choose(open_file(std::move(opened.file), read), path, options);
}

OpenedFile open_structure(const std::shared_ptr<const ReadAt>& file, const LoadOptions& options) {
  return choose(open_file(file, read_options(options)), file->name(), options);
}

std::vector<std::shared_ptr<RecordStorage>> records_of(const OpenedFile& file, const Value& value) {
  std::set<const Storage*> wanted;
  walk(value, [&wanted](const Visit& visit) {
    if (visit.value.is(Kind::tensor)) collect(visit.value.as_tensor(), wanted);
    return Next::inside;
  });
  std::vector<std::shared_ptr<RecordStorage>> records;
  for (const auto& storage : file.records) {
    if (wanted.contains(storage.get())) records.push_back(storage);
  }
  return records;
}

Error with_tensors(const Error& error, const OpenedFile& file) {
  const Storage* damaged = damaged_storage(error, file);
  if (damaged == nullptr) return error;
  std::vector<std::string> names;
  walk(file.value, [&](const Visit& visit) {
    if (!visit.value.is(Kind::tensor)) return Next::inside;
    if (visit.value.as_tensor().storage->identity() == damaged->identity()) {
      names.push_back(visit.place.parent == nullptr ? "the tensor that is all of the file" : visit.place.text());
    }
    return Next::inside;
  });
  return Error(error.code(), error.message() + holds_text(names), error.where()).with_errno(error.system_error());
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
