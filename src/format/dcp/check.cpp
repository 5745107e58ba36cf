// SPDX-License-Identifier: BSD-3-Clause
// Checks a DCP folder item by item.
#include <algorithm>
#include <cerrno>
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <mutex>

#include <torchkeep/base/crc32.h>
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
      if (!error && item.entry->is_tensor) check_chunk(item);
    } catch (const Error& caught) {
      error = caught;
    }
    if (error) set_damaged(i, at_item(*error, *opened_.source, item.place, item.entry->fqn));
    const std::lock_guard lock(mutex_);
    if (options_.on_progress) options_.on_progress(done_ += record.size, result_.bytes);
  }

  // The item holds what .metadata or the manifest promises, where it promises it.
  void check_chunk(const Item& item) const {
    const ChunkBytes found = find_in_item(*opened_.source, *item.entry, item.chunk, item.place);
    if (item.entry->known.empty()) return;
    const ChunkPlace& known = item.entry->known[item.chunk];
    const bool is_empty_chunk = is_empty(item.entry->chunks[item.chunk]);
    if (found.memory == nullptr && found.crc == known.crc && (found.begin == known.offset || is_empty_chunk)) return;
    throw at_item(Error(Code::corrupt, "the item and manifest.pt disagree about the place or the CRC-32 of its bytes"),
                  *opened_.source, item.place, item.entry->fqn);
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

// What of a folder of ours is no item: the rest of its data files, the manifest, and .metadata, which the manifest
// determines to the last byte.
class RestCheck {
 public:
  RestCheck(const Folder& folder, const OpenFolder& opened, const CheckOptions& options, FileCheck& result)
      : folder_(folder), opened_(opened), options_(options), result_(result) {}

  void run() {
    std::vector<std::vector<ByteRange>> chunks(opened_.metadata.files.size());
    for (const MetaEntry& entry : opened_.metadata.entries) {
      for (std::size_t i = 0; i < entry.known.size(); ++i) {
        const auto nbytes = static_cast<std::uint64_t>(*element_count(entry.chunks[i].size)) * itemsize(entry.dtype);
        chunks[entry.places[i].file].push_back({entry.known[i].offset, nbytes});
      }
    }
    for (std::uint32_t file = 0; file < chunks.size(); ++file) {
      const FileTail& tail = opened_.manifest->files[file].tail;
      add(tail.name + ": what is no item", tail.size - tail.begin, [&] { check_rest(file, std::move(chunks[file])); });
    }
    const std::string manifest(kManifestName);
    add(manifest, folder_.open(manifest)->size(), [&] { check_manifest(); });
    if (std::find(folder_.files.begin(), folder_.files.end(), ".metadata") != folder_.files.end())
      add(".metadata", folder_.open(".metadata")->size(), [&] { check_metadata(); });
  }

 private:
  template <class Check>
  void add(std::string name, std::uint64_t size, const Check& check) {
    CheckedRecord record;
    record.name = std::move(name);
    record.size = size;
    result_.bytes += size;
    try {
      check();
    } catch (const Error& error) {
      if (error.code() != Code::corrupt && error.system_error() != EIO) throw;
      record.state = State::damaged;
      record.problem = error.message();
      if (!result_.error) result_.error = error;
    }
    result_.records.push_back(std::move(record));
  }

  [[noreturn]] void fail(const std::string& file, std::uint64_t offset, std::string message) const {
    throw Error(Code::corrupt, std::move(message),
                {.file = folder_.name + "/" + file, .record = {}, .offset = offset, .key = {}});
  }

  // What is no chunk has the CRC that the manifest says; the tail was checked when the file was opened.
  void check_rest(std::uint32_t file, std::vector<ByteRange> chunks) const {
    const auto bytes = opened_.source->files->open(file);
    const FileTail& tail = opened_.manifest->files[file].tail;
    std::sort(chunks.begin(), chunks.end(), [](ByteRange a, ByteRange b) { return a.begin < b.begin; });
    chunks.push_back({tail.begin, 0});
    std::uint64_t at = 0;
    std::uint32_t crc = 0;
    std::vector<std::byte> block;
    for (const ByteRange& chunk : chunks) {
      for (; at < chunk.begin; at += block.size()) {
        block.resize(static_cast<std::size_t>(std::min(BlockCrcs::kBlock, chunk.begin - at)));
        bytes->read_at(at, block);
        crc = crc32(block, crc);
      }
      at = std::max(at, chunk.begin + chunk.size);
    }
    if (crc != tail.frame)
      fail(tail.name, 0,
           fmt::format("CRC-32 of what is no chunk is {:08x}, manifest.pt says {:08x}: bytes have changed", crc,
                       tail.frame));
  }

  void check_manifest() const {
    CheckOptions options;
    options.limits = options_.limits;
    options.threads = options_.threads;
    const FileCheck checked = check_file(folder_.open(std::string(kManifestName)), options);
    if (checked.error) throw *checked.error;
  }

  void check_metadata() const {
    const std::shared_ptr<const ReadAt> file = folder_.open(".metadata");
    const Manifest manifest = read_manifest(folder_.open(std::string(kManifestName)));
    std::uint64_t at = 0;
    std::string there;
    write_dcp_metadata(manifest, [&](Bytes bytes) {
      there.resize(bytes.size());
      if (bytes.size() > file->size() - at)
        fail(".metadata", file->size(), "it ends before the last chunk of manifest.pt");
      file->read_at(at, std::as_writable_bytes(std::span(there)));
      const auto differs = std::mismatch(bytes.begin(), bytes.end(), as_bytes(there).begin()).first - bytes.begin();
      if (static_cast<std::size_t>(differs) != bytes.size())
        fail(".metadata", at + static_cast<std::uint64_t>(differs), "it says something else than manifest.pt");
      at += bytes.size();
    });
    if (at != file->size()) fail(".metadata", at, "it goes on behind the last chunk of manifest.pt");
  }

  const Folder& folder_;
  const OpenFolder& opened_;
  const CheckOptions& options_;
  FileCheck& result_;
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
    if (opened.manifest) RestCheck(folder, opened, options, result).run();
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
