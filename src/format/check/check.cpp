// SPDX-License-Identifier: BSD-3-Clause
// Checks the records of a zip in chunks on all threads, then its structure; other formats, which have no checksums, by
// opening them and reading all their tensors.
#include <algorithm>
#include <cerrno>
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <mutex>
#include <unordered_map>

#include <torchkeep/base/crc32.h>
#include <torchkeep/base/parallel.h>
#include <torchkeep/format/check.h>
#include <torchkeep/format/open_file.h>
#include <torchkeep/state/compound.h>
#include <torchkeep/state/walk.h>

#include "dcp/items.h"
#include "range_read_at.h"
#include "zip/records.h"
#include "zip/zip.h"

namespace torchkeep {
namespace {

using State = CheckedRecord::State;

constexpr std::uint64_t kChunk = std::uint64_t{16} << 20;   // what one thread takes at a time
constexpr std::uint64_t kBlock = std::uint64_t{256} << 10;  // small enough to be in the L2 cache for its CRC

PtReadOptions read_options(const CheckOptions& options) {
  return {.verify = false,
          .unknown_classes = options.unknown_classes,
          .limits = options.limits,
          .open_sibling = options.open_sibling};
}

// Whether the file's bytes are bad, rather than of a kind that is not read, or the system unable to read them just now.
bool is_damage(const Error& error) noexcept {
  return error.code() == Code::corrupt || error.system_error() == EIO;
}

// What an Error says, with its place but without the file.
std::string describe(const Error& error) {
  Where where = error.where();
  where.file.clear();
  return Error(error.code(), error.message(), where).what();
}

// Paths as an error names them: a tensor that is all of the file has none.
std::string path_of(const Place& place) {
  return place.parent == nullptr ? "the tensor that is all of the file" : place.text();
}

void add_problem(FileCheck& result, const Error& error) {
  result.problems.push_back(describe(error));
  if (!result.error) result.error = error;
}

void add_hidden(FileCheck& result, const OpenedFile& opened, const std::string& file) {
  for (const std::string& what : opened.hidden)
    add_problem(result, Error(Code::corrupt, what + ", which no reader looks at",
                              {.file = file, .record = {}, .offset = {}, .key = {}}));
}

// Tells the caller how far the work has come.
class Progress {
 public:
  Progress(const CheckOptions& options, std::uint64_t total) : options_(options), total_(total) {}
  void add(std::uint64_t bytes) {
    if (!options_.on_progress) return;
    const std::lock_guard lock(mutex_);
    options_.on_progress(done_ += bytes, total_);
  }

 private:
  const CheckOptions& options_;
  std::mutex mutex_;
  std::uint64_t done_ = 0;
  std::uint64_t total_;
};

// The CRC-32 of bytes of a file, read block by block.
std::uint32_t crc_of(const ReadAt& file, std::uint64_t offset, std::uint64_t size) {
  std::vector<std::byte> block(static_cast<std::size_t>(std::min(kBlock, size)));
  std::uint32_t crc = 0;
  for (std::uint64_t done = 0; done < size;) {
    const auto part =
        std::span(block).first(static_cast<std::size_t>(std::min<std::uint64_t>(block.size(), size - done)));
    file.read_at(offset + done, part);
    crc = crc32(part, crc);
    done += part.size();
  }
  return crc;
}

class ZipCheck {
 public:
  ZipCheck(std::shared_ptr<const ReadAt> file, const CheckOptions& options, FileCheck& result)
      : file_(std::move(file)), options_(options), result_(result), zip_(file_, options.limits) {}

  void run() {
    for (const zip::Record& record : zip_.records()) {
      CheckedRecord checked;
      checked.name = record.name;
      checked.size = record.size;
      if (record.crc == 0 && record.size > 0) checked.state = State::unprotected;
      result_.bytes += record.size;
      result_.records.push_back(std::move(checked));
    }
    find_items();
    check_records();
    if (items_.empty()) check_beginning();
    check_items();
    const zip::Record* pickle = zip_.find("data.pkl");
    const bool damaged = pickle != nullptr && result_.records[index(*pickle)].state == State::damaged;
    if (damaged)
      result_.problems.push_back("data.pkl is damaged: what tensors there are is not known");
    else
      check_structure();
    name_first_damage();
    if (refusal_ && result_.good()) throw *refusal_;
  }

 private:
  // A part of a record, for one thread.
  struct Chunk {
    std::size_t record;
    std::uint64_t begin;
    std::uint64_t size;
    std::uint32_t crc = 0;
    bool is_read = true;
  };

  std::size_t index(const zip::Record& record) const {
    return static_cast<std::size_t>(&record - zip_.records().data());
  }

  void check_records() {
    std::vector<Chunk> chunks;
    for (std::size_t i = 0; i < zip_.records().size(); ++i) {
      const zip::Record& record = zip_.records()[i];
      const std::uint64_t step = record.method == zip::kMethodStored ? kChunk : std::max<std::uint64_t>(record.size, 1);
      std::uint64_t begin = 0;
      do {
        chunks.push_back({i, begin, std::min(step, record.size - begin)});
        begin += step;
      } while (begin < record.size);
    }
    Progress progress(options_, result_.bytes);
    parallel_for(chunks.size(), options_.threads, [&](std::uint64_t i) {
      try {
        check_chunk(chunks[i]);
        if (chunks[i].begin == 0 && !is_in_item(zip_.records()[chunks[i].record]))
          zip_.check_strictly(zip_.records()[chunks[i].record]);
      } catch (const Error& error) {
        if (error.code() == Code::io && !is_damage(error)) throw;
        chunks[i].is_read = false;
        is_damage(error) ? set_damaged(chunks[i].record, error) : refuse(error);
      }
      progress.add(chunks[i].size);
    });
    for (std::size_t i = 0; i < chunks.size();) i = join_chunks(chunks, i);
  }

  void check_chunk(Chunk& chunk) const {
    const zip::Record& record = zip_.records()[chunk.record];
    if (record.method != zip::kMethodStored) {
      std::string bytes(static_cast<std::size_t>(record.size), '\0');
      zip_.read(record, std::as_writable_bytes(std::span(bytes)), false);
      chunk.crc = crc32(as_bytes(bytes));
    } else {
      chunk.crc = crc_of(*file_, zip_.locate(record) + chunk.begin, chunk.size);
    }
  }

  // Compares the CRC of a record whose chunks begin at `first`; returns where the next record's begin.
  std::size_t join_chunks(const std::vector<Chunk>& chunks, std::size_t first) {
    std::uint32_t crc = chunks[first].crc;
    bool is_read = chunks[first].is_read;
    std::size_t next = first + 1;
    for (; next < chunks.size() && chunks[next].record == chunks[first].record; ++next) {
      crc = crc32_combine(crc, chunks[next].crc, chunks[next].size);
      is_read = is_read && chunks[next].is_read;
    }
    const std::size_t record = chunks[first].record;
    if (!is_read) return next;
    try {
      zip_.check_crc(zip_.records()[record], crc);
    } catch (const Error& error) {
      set_damaged(record, error);
    }
    return next;
  }

  // Before its records, a rank's file has items, each a zip whose records are among those of this zip.
  void find_items() {
    if (zip_.begin() != 0) items_ = rank_file_items(file_, options_.limits);
  }
  bool is_in_item(const zip::Record& record) const {
    const auto behind =
        std::upper_bound(items_.begin(), items_.end(), record.header_offset,
                         [](std::uint64_t offset, const ByteRange& item) { return offset < item.begin; });
    return behind != items_.begin() && record.header_offset < std::prev(behind)->begin + std::prev(behind)->size;
  }

  // Each item as a file of its own; between them there are zeros.
  void check_items() {
    std::uint64_t at = 0;
    for (const ByteRange& item : items_) {
      check_zeros(at, item.begin);
      at = item.begin + item.size;
      CheckOptions options;
      options.limits = options_.limits;
      options.unknown_classes = options_.unknown_classes;
      options.threads = options_.threads;
      const FileCheck checked = check_file(std::make_shared<RangeReadAt>(file_, item.begin, item.size), options);
      if (checked.error) add_problem(result_, *checked.error);
    }
    if (items_.empty()) return;
    std::uint64_t first = file_->size();
    for (const zip::Record& record : zip_.records()) {
      if (!is_in_item(record)) first = std::min(first, record.header_offset);
    }
    check_zeros(at, first);
  }

  void check_zeros(std::uint64_t begin, std::uint64_t end) {
    std::vector<std::byte> block;
    for (; begin < end; begin += block.size()) {
      block.resize(static_cast<std::size_t>(std::min(kBlock, end - begin)));
      file_->read_at(begin, block);
      const auto odd = std::find_if(block.begin(), block.end(), [](std::byte byte) { return byte != std::byte{0}; });
      if (odd == block.end()) continue;
      return add_problem(result_, Error(Code::corrupt, "a byte between two items that is not zero",
                                        {.file = file_->name(),
                                         .record = {},
                                         .offset = begin + static_cast<std::uint64_t>(odd - block.begin()),
                                         .key = {}}));
    }
  }

  void check_beginning() {
    if (const std::uint64_t begin = zip_.begin(); begin != 0)
      add_problem(result_, Error(Code::corrupt, fmt::format("{} bytes before the first record", begin),
                                 {.file = file_->name(), .record = {}, .offset = 0, .key = {}}));
  }

  void set_damaged(std::size_t record, const Error& error) {
    const std::lock_guard lock(mutex_);
    result_.records[record].state = State::damaged;
    result_.records[record].problem = error.message();
    if (!first_ || record <= first_->first) first_.emplace(record, error);
  }
  void refuse(const Error& error) {
    const std::lock_guard lock(mutex_);
    if (!refusal_) refusal_ = error;
  }

  // The tensors over the first damaged record are known by now.
  void name_first_damage() {
    if (!first_) return;
    const auto& [record, error] = *first_;
    result_.error = Error(error.code(), error.message() + holds_text(result_.records[record].tensors), error.where())
                        .with_errno(error.system_error());
  }

  // The pickle's objects, and which tensors view which record.
  void check_structure() {
    OpenedFile opened;
    try {
      opened = open_file(file_, read_options(options_));
      add_hidden(result_, opened, file_->name());
      result_.notes = opened.notes;
    } catch (const Error& error) {
      if (error.code() == Code::io && !is_damage(error)) throw;
      is_damage(error) ? add_problem(result_, error) : refuse(error);
      return;
    }
    std::unordered_map<const void*, CheckedRecord*> by_storage;
    for (const auto& storage : opened.records) {
      const zip::Record* record = zip_.find(storage->record_name());
      by_storage[storage->identity()] = &result_.records[index(*record)];
    }
    walk(opened.value, [&](const Visit& visit) {
      if (!visit.value.is(Kind::tensor)) return Next::inside;
      ++result_.tensors;
      const auto record = by_storage.find(visit.value.as_tensor().storage->identity());
      if (record != by_storage.end() && record->second->state == State::damaged) {
        record->second->tensors.push_back(path_of(visit.place));
      }
      return Next::inside;
    });
    if (first_) return;  // indices over damaged records say nothing
    try {
      check_compounds(opened.value);
    } catch (const Error& error) {
      if (error.code() == Code::io && !is_damage(error)) throw;
      is_damage(error) ? add_problem(result_, error.at({.file = file_->name(), .record = {}, .offset = {}, .key = {}}))
                       : refuse(error);
    }
  }

  std::shared_ptr<const ReadAt> file_;
  const CheckOptions& options_;
  FileCheck& result_;
  zip::Reader zip_;
  std::vector<ByteRange> items_;  // of a rank's file, ascending
  std::mutex mutex_;
  std::optional<std::pair<std::size_t, Error>> first_;  // damaged record, by its place in the directory
  std::optional<Error> refusal_;  // why the file is not read by a rule; counts when nothing is damaged
};

// Formats without checksums: every storage is read, block by block.
class PlainCheck {
 public:
  PlainCheck(const CheckOptions& options, FileCheck& result) : options_(options), result_(result) {}

  void run(const std::shared_ptr<const ReadAt>& file) {
    const OpenedFile opened = open_file(file, read_options(options_));
    add_hidden(result_, opened, file->name());
    collect(opened.value);
    Progress progress(options_, result_.bytes);
    parallel_for(storages_.size(), options_.threads, [&](std::uint64_t i) { read(i, progress); });
    if (result_.good()) check_compounds(opened.value);
    result_.notes.insert(result_.notes.end(), opened.notes.begin(), opened.notes.end());
    result_.notes.emplace_back("the format has no checksums: changed bytes cannot be told");
  }

 private:
  // Each storage is a record, called like the first tensor in it.
  void collect(const Value& root) {
    std::unordered_map<const void*, std::size_t> known;
    walk(root, [&](const Visit& visit) {
      if (!visit.value.is(Kind::tensor)) return Next::inside;
      ++result_.tensors;
      const StoragePtr& storage = visit.value.as_tensor().storage;
      const auto [entry, is_new] = known.emplace(storage->identity(), storages_.size());
      std::string path = path_of(visit.place);
      if (is_new) {
        result_.records.push_back({path, storage->nbytes(), State::unprotected, {}, {}});
        result_.bytes += storage->nbytes();
        storages_.push_back(storage);
        tensors_.emplace_back();
      }
      tensors_[entry->second].push_back(std::move(path));
      return Next::inside;
    });
  }

  void read(std::uint64_t i, Progress& progress) {
    const Storage& storage = *storages_[i];
    std::vector<std::byte> block;
    try {
      for (std::uint64_t done = 0; done < storage.nbytes(); done += block.size()) {
        block.resize(static_cast<std::size_t>(std::min(kBlock, storage.nbytes() - done)));
        storage.read(done, block);
        progress.add(block.size());
      }
    } catch (const Error& error) {
      if (error.code() == Code::io && !is_damage(error)) throw;
      result_.records[i].state = State::damaged;
      result_.records[i].problem = error.message();
      result_.records[i].tensors = tensors_[i];
      const std::lock_guard lock(mutex_);
      if (!result_.error) result_.error = error;
    }
  }

  const CheckOptions& options_;
  FileCheck& result_;
  std::mutex mutex_;
  std::vector<StoragePtr> storages_;               // by record
  std::vector<std::vector<std::string>> tensors_;  // by record
};

constexpr std::size_t kNamed = 5;  // tensors that an error names

}  // namespace

std::string holds_text(const std::vector<std::string>& tensors) {
  if (tensors.empty()) return {};
  const auto named = std::span(tensors).first(std::min(tensors.size(), kNamed));
  const std::string more = tensors.size() > kNamed ? fmt::format(" and {} more", tensors.size() - kNamed) : "";
  return fmt::format(". It holds: {}{}", fmt::join(named, ", "), more);
}

std::uint64_t FileCheck::count(CheckedRecord::State state) const noexcept {
  return static_cast<std::uint64_t>(std::count_if(
      records.begin(), records.end(), [state](const CheckedRecord& record) { return record.state == state; }));
}

FileCheck check_file(std::shared_ptr<const ReadAt> file, const CheckOptions& options) {
  FileCheck result;
  result.file_size = file->size();
  const std::string name = file->name();
  try {
    const FileFormat format = recognize(*file, options.limits);
    result.format = to_string(format);
    result.has_checksums = format == FileFormat::torch_zip || format == FileFormat::torch_script;
    if (result.has_checksums)
      ZipCheck(std::move(file), options, result).run();
    else
      PlainCheck(options, result).run(file);
  } catch (const Error& error) {
    if (!is_damage(error) && (error.code() == Code::io || result.good())) throw;
    add_problem(result, error.at({.file = name, .record = {}, .offset = {}, .key = {}}));
  }
  return result;
}

}  // namespace torchkeep
