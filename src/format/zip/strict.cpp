// SPDX-License-Identifier: BSD-3-Clause
// What a reader passes over and verify does not: everything between the start of a record's local header and the next.
#include <algorithm>
#include <fmt/format.h>

#include "records.h"
#include "zip.h"

namespace torchkeep::zip {
namespace {

// Encoding of names, sizes behind the payload, and how hard the deflater tried.
constexpr std::uint16_t kHarmlessFlags = kFlagUtf8 | kFlagDescriptor | 0x0006;

/// A size as the local header has it: 32 bits, or the next 64 of the zip64 block.
struct LocalSize {
  const char* name;
  std::uint32_t narrow;
  std::uint64_t central;
};

}  // namespace

// Throws Error (corrupt) unless the zip64 block of a local header repeats the directory's sizes, or defers them.
void Reader::check_local_zip64(const Record& record, Bytes extra, std::uint32_t size, std::uint32_t stored) const {
  Bytes zip64;
  while (extra.size() >= 4 && zip64.empty()) {
    const std::size_t length = field<std::uint16_t>(extra, 2);
    if (length > extra.size() - 4) break;  // padding
    if (field<std::uint16_t>(extra, 0) == kZip64Tag) zip64 = extra.subspan(4, length);
    extra = extra.subspan(4 + length);
  }
  const bool deferred = (record.flags & kFlagDescriptor) != 0;
  for (const LocalSize& one : {LocalSize{"size", size, record.size}, {"stored size", stored, record.stored_size}}) {
    if (one.narrow != kIn64) continue;
    const bool is_there = zip64.size() >= 8;
    const std::uint64_t wide = is_there ? field<std::uint64_t>(zip64, 0) : one.central;
    if (is_there) zip64 = zip64.subspan(8);
    const bool agrees = wide == one.central || (deferred && wide == 0);
    if (!agrees || (!is_there && one.central != kIn64)) {
      fail(record, Code::corrupt,
           fmt::format("the zip64 block of its local header and the directory disagree about its {}", one.name));
    }
  }
}

// Throws Error (corrupt) unless `rest`, what stands between the payload and the next record, is nothing, or a data
// descriptor that repeats the directory.
void Reader::check_descriptor(const Record& record, std::uint64_t begin) const {
  const std::uint64_t size = record.limit - begin;
  if (size == 0) return;
  const bool is_expected = (record.flags & kFlagDescriptor) != 0;
  const bool has_signature = size == 16 || size == 24;
  if (!is_expected || (!has_signature && size != 12 && size != 20)) {
    fail(record, Code::corrupt, fmt::format("{} bytes behind it belong to no record", size));
  }
  std::string bytes(static_cast<std::size_t>(size), '\0');
  file_->read_at(begin, std::as_writable_bytes(std::span(bytes)));
  Bytes fields = as_bytes(bytes);
  const bool is_wide = size >= 20;
  bool agrees = !has_signature || field<std::uint32_t>(fields, 0) == kDescriptorSignature;
  if (has_signature) fields = fields.subspan(4);
  const auto number = [&](std::size_t index) -> std::uint64_t {
    return is_wide ? field<std::uint64_t>(fields, 4 + 8 * index) : field<std::uint32_t>(fields, 4 + 4 * index);
  };
  agrees = agrees && field<std::uint32_t>(fields, 0) == record.crc && number(0) == record.stored_size &&
           number(1) == record.size;
  if (!agrees) fail(record, Code::corrupt, "the data descriptor behind it and the directory disagree");
}

void Reader::check_strictly(const Record& record) const {
  const std::uint64_t data = locate(record);
  const std::uint16_t odd = record.flags & static_cast<std::uint16_t>(~kHarmlessFlags);
  if (odd != 0) fail(record, Code::corrupt, fmt::format("flags {:#06x}, which nobody sets", odd));
  std::string header(static_cast<std::size_t>(data - record.header_offset), '\0');
  file_->read_at(record.header_offset, std::as_writable_bytes(std::span(header)));
  const Bytes bytes = as_bytes(header);
  check_local_zip64(record, bytes.subspan(header_size(record)), field<std::uint32_t>(bytes, 22),
                    field<std::uint32_t>(bytes, 18));
  check_descriptor(record, data + record.stored_size);
}

std::uint64_t Reader::begin() const noexcept {
  std::uint64_t first = file_->size();
  for (const Record& record : records_) first = std::min(first, record.header_offset);
  return first;
}

}  // namespace torchkeep::zip
