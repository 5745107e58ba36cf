// SPDX-License-Identifier: BSD-3-Clause
// Opens a zip by its directory, and reads records after comparing their local headers with it.
#include <algorithm>
#include <fmt/format.h>
#include <libdeflate.h>

#include <torchkeep/base/checked.h>
#include <torchkeep/base/crc32.h>

#include "directory.h"
#include "hash.h"
#include "records.h"
#include "show.h"
#include "zip.h"

namespace torchkeep::zip {
namespace {

constexpr std::uint64_t kBlock = std::uint64_t{1} << 20;
// Deflate cannot expand further than this; a record that claims more is lying.
constexpr std::uint64_t kMaxExpansion = 1032;

bool is_bad_name(std::string_view name) {
  if (name.find('\0') != std::string_view::npos) return true;
  for (std::size_t begin = 0; begin <= name.size();) {
    const std::size_t end = std::min(name.find('/', begin), name.size());
    const std::string_view part = name.substr(begin, end - begin);
    if (part == ".." || part == ".") return true;
    begin = end + 1;
  }
  return false;
}

void inflate(const Reader& reader, const Record& record, Bytes stored, MutableBytes out) {
  const std::unique_ptr<libdeflate_decompressor, void (*)(libdeflate_decompressor*)> decompressor(
      libdeflate_alloc_decompressor(), libdeflate_free_decompressor);
  if (decompressor == nullptr) reader.fail(record, Code::refused, "no memory to inflate");
  std::size_t actual = 0;
  const auto result =
      libdeflate_deflate_decompress(decompressor.get(), stored.data(), stored.size(), out.data(), out.size(), &actual);
  if (result != LIBDEFLATE_SUCCESS || actual != out.size()) {
    reader.fail(record, Code::corrupt, fmt::format("does not inflate to the {} bytes of the directory", out.size()));
  }
}

}  // namespace

Reader::Reader(std::shared_ptr<const ReadAt> file, const Limits& limits, bool map) : file_(std::move(file)) {
  const Directory directory = find_directory(*file_, limits);
  directory_.resize(static_cast<std::size_t>(directory.size));
  file_->read_at(directory.offset, directory_);
  records_ = parse_directory(directory_, directory, file_->name());
  if (records_.empty()) {
    throw Error(Code::corrupt, "a zip without records", {.file = file_->name(), .record = {}, .offset = {}, .key = {}});
  }
  root_ = records_[0].name.substr(0, records_[0].name.find('/'));
  if (root_.size() < records_[0].name.size()) root_ += '/';
  folder_ = root_;
  const auto foreign = std::find_if(records_.begin(), records_.end(), [this](const Record& record) {
    return !record.name.starts_with(root_) || !root_.ends_with('/');
  });
  if (foreign != records_.end()) root_.clear();
  for (Record& record : records_) {
    if (is_bad_name(record.name)) fail(record, Code::refused, "a record name with a NUL, '.' or '..'");
    record.name.remove_prefix(root_.size());
  }
  if (foreign != records_.end()) foreign_ = &*foreign;
  check_layout(directory.offset);
  check_inflation(limits);
  index_names();
  if (map) mapping_ = file_->map();
}

// Records, with at least their name and payload, must not overlap each other or the directory.
void Reader::check_layout(std::uint64_t directory_offset) {
  const auto before = [](const Record& a, const Record& b) { return a.header_offset < b.header_offset; };
  std::uint64_t limit = directory_offset;
  if (std::is_sorted(records_.begin(), records_.end(), before)) {
    for (auto record = records_.rbegin(); record != records_.rend(); ++record) limit = check_room(*record, limit);
    return;
  }
  std::vector<Record*> order;
  for (Record& record : records_) order.push_back(&record);
  std::sort(order.begin(), order.end(), [&before](const Record* a, const Record* b) { return before(*a, *b); });
  for (auto record = order.rbegin(); record != order.rend(); ++record) limit = check_room(**record, limit);
}

// Sets the record's limit and returns that of the one before it.
std::uint64_t Reader::check_room(Record& record, std::uint64_t limit) const {
  record.limit = limit;
  const std::uint64_t room = limit < record.header_offset ? 0 : limit - record.header_offset;
  if (room < header_size(record) || room - header_size(record) < record.stored_size) {
    fail(record, Code::corrupt,
         fmt::format("its {} bytes do not fit between its header at {} and what follows at {}", record.stored_size,
                     record.header_offset, limit));
  }
  if (record.method == kMethodStored && record.size != record.stored_size) {
    fail(record, Code::corrupt, fmt::format("stored in {} bytes but {} long", record.stored_size, record.size));
  }
  if (record.size / kMaxExpansion > record.stored_size) {
    fail(record, Code::refused,
         fmt::format("{} bytes out of {} deflated ones: impossible", record.size, record.stored_size));
  }
  return record.header_offset;
}

// A zip bomb is a file of few bytes that deflated records make many.
void Reader::check_inflation(const Limits& limits) const {
  const auto expanded = checked_mul<std::uint64_t>(file_->size(), limits.max_inflation);
  const auto allowed = expanded ? checked_add(*expanded, limits.max_free_bytes) : std::nullopt;
  if (!allowed) return;
  std::uint64_t left = *allowed;
  for (const Record& record : records_) {
    if (record.method == kMethodStored) continue;
    if (record.size > left) {
      fail(record, Code::refused,
           fmt::format("with it the deflated records would take more than {} bytes (Limits::max_inflation is {})",
                       *allowed, limits.max_inflation));
    }
    left -= record.size;
  }
}

void Reader::index_names() {
  std::size_t capacity = 16;
  while (capacity < 2 * records_.size()) capacity *= 2;
  slots_.assign(capacity, {});
  seed_ = detail::hash_seed();
  for (std::uint32_t i = 0; i < records_.size(); ++i) {
    const std::uint64_t hash = detail::hash_text(records_[i].name, seed_);
    std::size_t slot = 0;
    if (look_up(records_[i].name, hash, slot) != nullptr) fail(records_[i], Code::corrupt, "two records of this name");
    slots_[slot] = {static_cast<std::uint32_t>(hash >> 32), i + 1};
  }
}

// The record of this name, or nullptr and the free slot where it would stand.
const Record* Reader::look_up(std::string_view name, std::uint64_t hash, std::size_t& slot) const noexcept {
  const std::size_t mask = slots_.size() - 1;
  for (slot = hash & mask; slots_[slot].record != 0; slot = (slot + 1) & mask) {
    if (slots_[slot].hash != static_cast<std::uint32_t>(hash >> 32)) continue;
    const Record& record = records_[slots_[slot].record - 1];
    if (record.name == name) return &record;
  }
  return nullptr;
}

const Record* Reader::find(std::string_view name, const Record* previous) const noexcept {
  if (previous != nullptr && previous != &records_.back() && previous[1].name == name) return previous + 1;
  std::size_t slot = 0;
  return look_up(name, detail::hash_text(name, seed_), slot);
}

void Reader::fail(const Record& record, Code code, std::string message) const {
  throw Error(code, std::move(message),
              {.file = file_->name(), .record = detail::show(record.name), .offset = {}, .key = {}});
}

std::uint64_t Reader::header_size(const Record& record) const noexcept {
  return kLocalSize + root_.size() + record.name.size();
}

std::uint64_t Reader::check_local(const Record& record, Bytes header) const {
  const auto differs = [&](const char* what) {
    fail(record, Code::corrupt,
         fmt::format("its local header at {} and the directory disagree about its {}", record.header_offset, what));
  };
  if (field<std::uint32_t>(header, 0) != kLocalSignature) {
    fail(record, Code::corrupt, fmt::format("no local header at {}, where the directory says", record.header_offset));
  }
  const std::size_t name_size = root_.size() + record.name.size();
  if (field<std::uint16_t>(header, 26) != name_size) differs("name");
  const std::string_view name = as_text(header.subspan(kLocalSize, name_size));
  if (!name.starts_with(root_) || name.substr(root_.size()) != record.name) differs("name");
  if (field<std::uint16_t>(header, 6) != record.flags) differs("flags");
  if (field<std::uint16_t>(header, 8) != record.method) differs("method");
  // With a data descriptor the three fields are not known yet when the header is written: 0, or "see zip64".
  const bool deferred = (record.flags & kFlagDescriptor) != 0;
  const auto agrees = [&](std::uint32_t local, std::uint64_t central) {
    return local == central || local == kIn64 || (deferred && local == 0);
  };
  const auto local_crc = field<std::uint32_t>(header, 14);
  if (local_crc != record.crc && !(deferred && local_crc == 0)) differs("CRC");
  if (!agrees(field<std::uint32_t>(header, 18), record.stored_size)) differs("stored size");
  if (!agrees(field<std::uint32_t>(header, 22), record.size)) differs("size");
  const std::uint64_t data = record.header_offset + header_size(record) + field<std::uint16_t>(header, 28);
  if (data > record.limit || record.limit - data < record.stored_size) {
    fail(record, Code::corrupt,
         fmt::format("its {} bytes from {} on reach into what follows at {}", record.stored_size, data, record.limit));
  }
  if ((record.flags & kFlagsEncrypted) != 0) fail(record, Code::unsupported, "an encrypted record");
  if (record.method != kMethodStored && record.method != kMethodDeflated) {
    fail(record, Code::unsupported,
         fmt::format("compression method {}; only stored and deflated records can be read", record.method));
  }
  return data;
}

std::uint64_t Reader::locate(const Record& record) const {
  std::string header(static_cast<std::size_t>(header_size(record)), '\0');
  file_->read_at(record.header_offset, std::as_writable_bytes(std::span(header)));
  return check_local(record, as_bytes(header));
}

void Reader::check_crc(const Record& record, std::uint32_t crc) const {
  if (crc == record.crc || record.crc == 0) return;
  fail(record, Code::corrupt,
       fmt::format("CRC-32 is {:08x}, the directory says {:08x}: its bytes have changed", crc, record.crc));
}

void Reader::read(const Record& record, MutableBytes out, bool verify) const {
  const std::uint64_t data = locate(record);
  std::uint32_t crc = 0;
  if (record.method == kMethodDeflated) {
    std::string stored(static_cast<std::size_t>(record.stored_size), '\0');
    file_->read_at(data, std::as_writable_bytes(std::span(stored)));
    inflate(*this, record, as_bytes(stored), out);
    if (verify) crc = crc32(out);
  } else {
    for (std::uint64_t done = 0; done < record.size;) {
      const auto block = out.subspan(done, std::min(kBlock, record.size - done));
      file_->read_at(data + done, block);
      if (verify) crc = crc32(block, crc);
      done += block.size();
    }
  }
  if (verify) check_crc(record, crc);
}

void Reader::check_size(const Record& record, std::uint64_t limit) const {
  if (record.size <= limit) return;
  fail(record, Code::refused, fmt::format("{} bytes long, more than the limit of {}", record.size, limit));
}

std::string Reader::read(const Record& record, bool verify, std::uint64_t limit) const {
  check_size(record, limit);
  std::string bytes(static_cast<std::size_t>(record.size), '\0');
  read(record, std::as_writable_bytes(std::span(bytes)), verify);
  return bytes;
}

}  // namespace torchkeep::zip
