// SPDX-License-Identifier: BSD-3-Clause
// Data files, of which a few are open.
#include "files.h"

#include <algorithm>
#include <fmt/format.h>

namespace torchkeep::dcp {
namespace {

constexpr std::size_t kMostOpen = 64;

}  // namespace

DataFiles::DataFiles(const Folder& folder, const std::vector<std::string>& names, Check check)
    : open_(folder.open), check_(std::move(check)), is_checked_(names.size(), false), names_(names) {
  for (const std::string& name : names) {
    paths_.push_back(folder.name + "/" + name);
    sizes_.push_back(0);
    missing_.push_back(false);
    try {
      sizes_.back() = open_(name)->size();
    } catch (const Error& error) {
      if (error.code() != Code::not_found) throw;
      missing_.back() = true;
    }
  }
}

std::shared_ptr<const ReadAt> DataFiles::open(std::uint32_t file) const {
  const std::lock_guard lock(mutex_);
  auto found = std::find_if(opened_.begin(), opened_.end(), [file](const Open& one) { return one.file == file; });
  if (found != opened_.end()) {
    opened_.splice(opened_.begin(), opened_, found);
    return found->bytes;
  }
  auto bytes = open_(names_[file]);
  if (bytes->size() != sizes_[file]) {
    throw Error(
        Code::corrupt,
        fmt::format("the file has {} bytes, and had {} before: somebody writes to it", bytes->size(), sizes_[file]),
        {.file = paths_[file], .record = {}, .offset = {}, .key = {}});
  }
  if (check_ && !is_checked_[file]) check_(file, *bytes);
  is_checked_[file] = true;
  opened_.push_front({file, bytes});
  if (opened_.size() > kMostOpen) opened_.pop_back();
  return bytes;
}

void Slice::read_at(std::uint64_t offset, MutableBytes out) const {
  if (offset > size_ || out.size() > size_ - offset) {
    throw Error(Code::corrupt, "the item ends before these bytes",
                {.file = name(), .record = {}, .offset = offset_ + offset, .key = {}});
  }
  files_->open(file_)->read_at(offset_ + offset, out);
}

}  // namespace torchkeep::dcp
