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
    std::optional<Error> error;
    try {
      error = check_zip(item, record);
      if (!error && item.entry->is_tensor) find_chunk(*opened_.source, *item.entry, item.chunk, item.place);
    } catch (const Error& caught) {
      error = caught;
    }
    if (error) set_damaged(i, at_item(*error, *opened_.source, item.place, item.entry->fqn));
    const std::lock_guard lock(mutex_);
    if (options_.on_progress) options_.on_progress(done_ += record.size, result_.bytes);
  }

  // An error that is no damage is thrown: the system cannot read, or load() does not read it by a rule either.
  void set_damaged(std::uint64_t i, const Error& error) {
    if (error.code() != Code::corrupt && error.system_error() != EIO) throw error;
    CheckedRecord& record = result_.records[i];
    record.state = State::damaged;
    record.problem = error.where().record.empty() ? error.message() : describe(error);
    record.tensors = {items_[i].entry->fqn};
    const std::lock_guard lock(mutex_);
    if (i >= first_) return;
    first_ = i;
    result_.error = error;
  }

  // Without the file, the item and the name, which the record says.
  static std::string describe(const Error& error) {
    const std::string& place = error.where().record;
    const std::size_t inner = place.find(": ");
    return inner == std::string::npos ? error.message() : place.substr(inner + 2) + ": " + error.message();
  }

  // Every record of the zip that the item is; the first thing that is wrong.
  std::optional<Error> check_zip(const Item& item, CheckedRecord& record) const {
    if (item.place.transforms != 0) {
      return Error(Code::unsupported, fmt::format("an item behind the extension {}, which torchkeep cannot undo",
                                                  opened_.metadata.transforms[item.place.transforms - 1]));
    }
    CheckOptions options;
    options.limits = options_.limits;
    options.unknown_classes = options_.unknown_classes;
    options.threads = 1;
    const auto slice =
        std::make_shared<Slice>(opened_.source->files, item.place.file, item.place.offset, item.place.length);
    const FileCheck checked = check_file(slice, options);
    if (checked.count(State::unprotected) > 0) record.state = State::unprotected;
    return checked.error;
  }

  const OpenFolder& opened_;
  const CheckOptions& options_;
  FileCheck& result_;
  std::vector<Item> items_;  // by record
  std::mutex mutex_;
  std::uint64_t done_ = 0;
  std::uint64_t first_ = ~std::uint64_t{0};  // record of which result_.error speaks
};

}  // namespace

FileCheck check_dcp(const Folder& folder, const CheckOptions& options) {
  FileCheck result;
  result.format = to_string(FileFormat::dcp);
  result.has_checksums = true;
  PtReadOptions read;
  read.verify = false;  // the items' own checks do
  read.limits = options.limits;
  read.unknown_classes = options.unknown_classes;
  try {
    const OpenFolder opened = open_folder(folder, read);
    result.file_size = opened.nbytes;
    result.notes = opened.notes;
    FolderCheck(opened, options, result).run();
  } catch (const Error& error) {
    if (error.code() != Code::corrupt) throw;
    result.problems.emplace_back(error.what());
    if (!result.error) result.error = error;
  }
  if (const std::uint64_t unprotected = result.count(State::unprotected); unprotected > 0) {
    result.notes.push_back(
        fmt::format("{} of {} items were written without checksums", unprotected, result.records.size()));
  }
  return result;
}

}  // namespace torchkeep
