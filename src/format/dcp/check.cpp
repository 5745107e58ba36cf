// SPDX-License-Identifier: BSD-3-Clause
// Checks a DCP folder item by item.
#include <cerrno>
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <mutex>

#include <torchkeep/base/parallel.h>
#include <torchkeep/format/dcp.h>
#include <torchkeep/format/open_file.h>

#include "folder.h"

namespace torchkeep {
namespace {

using namespace dcp;
using State = CheckedRecord::State;

class FolderCheck {
 public:
  FolderCheck(const OpenFolder& opened, const CheckOptions& options, FileCheck& result)
      : opened_(opened), options_(options), result_(result) {}

  void run() {
    for (const MetaEntry& entry : opened_.metadata.entries) {
      result_.tensors += entry.is_tensor;
      for (std::size_t i = 0; i < entry.places.size(); ++i) {
        if (entry.places[i].file != ItemPlace::kNowhere) add({&entry, i, entry.places[i]});
      }
    }
    for (const Metadata::Replica& replica : opened_.metadata.replicas) {
      add({&opened_.metadata.entries[replica.entry], replica.item, replica.place});
    }
    parallel_for(items_.size(), options_.threads, [this](std::uint64_t i) { check(i); });
  }

 private:
  struct Item {
    const MetaEntry* entry;
    std::size_t chunk;
    ItemPlace place;
  };

  void add(const Item& item) {
    const MetaEntry& entry = *item.entry;
    CheckedRecord record;
    record.name = fmt::format("{} at byte {}: {}{}", opened_.metadata.files[item.place.file], item.place.offset,
                              entry.fqn, entry.is_tensor ? " " + to_string(entry.chunks[item.chunk]) : "");
    record.size = item.place.length;
    result_.bytes += record.size;
    result_.records.push_back(std::move(record));
    items_.push_back(item);
  }

  void check(std::uint64_t i) {
    const Item& item = items_[i];
    CheckedRecord& record = result_.records[i];
    try {
      check_records(item, record);
      if (record.state != State::damaged && item.entry->is_tensor)
        find_chunk(*opened_.source, *item.entry, item.chunk, item.place);
    } catch (const Error& error) {
      if (error.code() == Code::io && error.system_error() != EIO) throw;
      record.state = State::damaged;
      record.problem = error.message();
    }
    if (record.state == State::damaged) record.tensors = {item.entry->fqn};
    const std::lock_guard lock(mutex_);
    if (options_.on_progress) options_.on_progress(done_ += record.size, result_.bytes);
  }

  // Every record of the zip that the item is.
  void check_records(const Item& item, CheckedRecord& record) const {
    if (item.place.transforms != 0) {
      throw Error(Code::unsupported,
                  fmt::format("behind the extension {}", opened_.metadata.transforms[item.place.transforms - 1]));
    }
    CheckOptions options;
    options.limits = options_.limits;
    options.threads = 1;
    const auto slice =
        std::make_shared<Slice>(opened_.source->files, item.place.file, item.place.offset, item.place.length);
    const FileCheck checked = check_file(slice, options);
    std::vector<std::string> problems = checked.problems;
    for (const CheckedRecord& inner : checked.records) {
      if (inner.state == State::damaged) problems.push_back(fmt::format("{}: {}", inner.name, inner.problem));
    }
    if (!problems.empty()) {
      record.state = State::damaged;
      record.problem = fmt::format("{}", fmt::join(problems, "; "));
    } else if (checked.count(State::unprotected) > 0) {
      record.state = State::unprotected;
    }
  }

  const OpenFolder& opened_;
  const CheckOptions& options_;
  FileCheck& result_;
  std::vector<Item> items_;  // by record
  std::mutex mutex_;
  std::uint64_t done_ = 0;
};

}  // namespace

FileCheck check_dcp(const Folder& folder, const CheckOptions& options) {
  FileCheck result;
  result.format = to_string(FileFormat::dcp);
  result.has_checksums = true;
  PtReadOptions read;
  read.verify = false;  // the items' own checks do
  read.limits = options.limits;
  try {
    const OpenFolder opened = open_folder(folder, read);
    result.file_size = opened.nbytes;
    result.notes = opened.notes;
    FolderCheck(opened, options, result).run();
  } catch (const Error& error) {
    const bool is_damage = error.code() == Code::corrupt || error.code() == Code::refused;
    if (!is_damage) throw;
    result.problems.emplace_back(error.what());
  }
  if (const std::uint64_t unprotected = result.count(State::unprotected); unprotected > 0) {
    result.notes.push_back(
        fmt::format("{} of {} items were written without checksums", unprotected, result.records.size()));
  }
  return result;
}

}  // namespace torchkeep
