// SPDX-License-Identifier: BSD-3-Clause
// Finding and parsing the end records and the central directory of a zip.
#include "directory.h"

#include <algorithm>
#include <fmt/format.h>
#include <optional>

#include "records.h"

namespace torchkeep::zip {
namespace {

constexpr std::size_t kTailSize = kEnd64Size + kLocatorSize + kEndSize;
constexpr std::size_t kMaxComment = 0xffff;

[[noreturn]] void fail(const std::string& file, std::uint64_t offset, std::string message, Code code = Code::corrupt) {
  throw Error(code, std::move(message), {.file = file, .record = {}, .offset = offset, .key = {}});
}

/// The last bytes of the file, and where they begin.
struct Tail {
  std::string text;
  std::uint64_t offset = 0;
  Bytes at(std::uint64_t file_offset) const { return as_bytes(text).subspan(file_offset - offset); }
};

Tail read_tail(const ReadAt& file, std::size_t wanted) {
  const std::uint64_t size = std::min<std::uint64_t>(file.size(), wanted);
  Tail tail{std::string(static_cast<std::size_t>(size), '\0'), file.size() - size};
  file.read_at(tail.offset, std::as_writable_bytes(std::span(tail.text)));
  return tail;
}

// Where the end record lies in `tail`: the one whose comment ends with the file. Nothing may follow it, else a file cut
// off behind a zip that it contains would pass for that zip.
std::optional<std::uint64_t> find_end(const Tail& tail, std::uint64_t file_size) {
  if (tail.text.size() < kEndSize) return std::nullopt;
  for (std::uint64_t offset = file_size - kEndSize;; --offset) {
    const Bytes end = tail.at(offset);
    if (field<std::uint32_t>(end, 0) == kEndSignature &&
        offset + kEndSize + field<std::uint16_t>(end, 20) == file_size) {
      return offset;
    }
    if (offset == tail.offset) return std::nullopt;
  }
}

// A field of the end record must repeat the zip64 one, or say that it is there.
template <class T>
void check_repeats(const std::string& file, std::uint64_t offset, T classic, std::uint64_t wide, const char* what) {
  constexpr T kSaturated = static_cast<T>(~T{0});
  if (classic == kSaturated || classic == wide) return;
  fail(file, offset, fmt::format("the end record says {} {}, the zip64 end record {}", what, classic, wide));
}

bool has_signature(const ReadAt& file, std::uint64_t offset, std::uint32_t wanted) {
  std::uint32_t signature = 0;
  if (offset > file.size() || file.size() - offset < sizeof(signature)) return false;
  file.read_at(offset, std::as_writable_bytes(std::span(&signature, 1)));
  return signature == wanted;
}

// A .distcp file is zips one after another, each of which counts from its own start: the last one is found, and
// everything in it lies `shift` bytes further on than it says.
void check_several(const ReadAt& file, std::uint64_t shift) {
  const bool end_and_start = shift >= kEndSize && has_signature(file, shift - kEndSize, kEndSignature) &&
                             has_signature(file, shift, kLocalSignature);
  if (!end_and_start || !has_signature(file, 0, kLocalSignature)) return;
  fail(file.name(), shift, "several zips one after another, as in a .distcp file of torch.distributed",
       Code::unsupported);
}

Directory read_end64(const ReadAt& file, const Tail& tail, std::uint64_t end_offset) {
  const Bytes locator = tail.at(end_offset - kLocatorSize);
  if (end_offset - tail.offset < kLocatorSize + kEnd64Size) {
    fail(file.name(), end_offset - kLocatorSize, "a zip64 locator without room for a zip64 end record before it");
  }
  const auto offset = field<std::uint64_t>(locator, 8);
  const std::uint64_t place = end_offset - kLocatorSize - kEnd64Size;
  if (offset < place) {
    const Bytes end64 = tail.at(place);
    const auto directory_size = field<std::uint64_t>(end64, 40);
    const bool is_whole = field<std::uint32_t>(end64, 0) == kEnd64Signature && directory_size <= offset &&
                          field<std::uint64_t>(end64, 48) == offset - directory_size;
    if (is_whole) check_several(file, place - offset);
  }
  if (offset != place) {
    fail(file.name(), end_offset - kLocatorSize,
         fmt::format("the zip64 locator points to {}, the zip64 end record should be at {}", offset, place));
  }
  const Bytes end64 = tail.at(offset);
  if (field<std::uint32_t>(end64, 0) != kEnd64Signature || field<std::uint64_t>(end64, 4) != kEnd64Size - 12) {
    fail(file.name(), offset, "no zip64 end record where the locator points to");
  }
  const Directory directory{field<std::uint64_t>(end64, 48), field<std::uint64_t>(end64, 40),
                            field<std::uint64_t>(end64, 32)};
  const Bytes end = tail.at(end_offset);
  const auto disks = field<std::uint64_t>(end64, 16);
  if (disks != 0 || field<std::uint32_t>(locator, 4) != 0 || field<std::uint64_t>(end64, 24) != directory.count) {
    fail(file.name(), offset, "a zip of several parts", Code::unsupported);
  }
  check_repeats(file.name(), end_offset, field<std::uint16_t>(end, 10), directory.count, "entries");
  check_repeats(file.name(), end_offset, field<std::uint32_t>(end, 12), directory.size, "directory bytes");
  check_repeats(file.name(), end_offset, field<std::uint32_t>(end, 16), directory.offset, "directory offset");
  if (directory.offset > offset || directory.size != offset - directory.offset) {
    fail(file.name(), offset,
         fmt::format("the directory ({} bytes at {}) does not end where the zip64 end record begins", directory.size,
                     directory.offset));
  }
  return directory;
}

// The contents of the zip64 block of an extra field; empty when there is none.
Bytes find_zip64(Bytes extra, const ByteReader& place) {
  while (extra.size() >= 4) {
    const std::size_t size = field<std::uint16_t>(extra, 2);
    if (size > extra.size() - 4) place.fail("a block of the extra field passes its end");
    if (field<std::uint16_t>(extra, 0) == kZip64Tag) return extra.subspan(4, size);
    extra = extra.subspan(4 + size);
  }
  return {};
}

// A 32-bit field of a central entry, or the next value of the zip64 block when the field says so.
std::uint64_t widen(std::uint32_t value, Bytes& zip64, const ByteReader& place) {
  if (value != kIn64) return value;
  if (zip64.size() < 8) place.fail("a size or offset is missing from the zip64 extra field");
  const auto wide = field<std::uint64_t>(zip64, 0);
  zip64 = zip64.subspan(8);
  return wide;
}

Record parse_entry(ByteReader& reader) {
  const Bytes fixed = reader.take(kCentralSize);
  if (field<std::uint32_t>(fixed, 0) != kCentralSignature) {
    reader.seek(reader.position() - kCentralSize);
    reader.fail("no central directory entry where one should begin");
  }
  Record record;
  record.name = as_text(reader.take(field<std::uint16_t>(fixed, 28)));
  const Bytes extra = reader.take(field<std::uint16_t>(fixed, 30));
  reader.take(field<std::uint16_t>(fixed, 32));
  record.flags = field<std::uint16_t>(fixed, 8);
  record.method = field<std::uint16_t>(fixed, 10);
  record.crc = field<std::uint32_t>(fixed, 16);
  const auto stored_size = field<std::uint32_t>(fixed, 20);
  const auto size = field<std::uint32_t>(fixed, 24);
  const auto header_offset = field<std::uint32_t>(fixed, 42);
  Bytes zip64;
  if (size == kIn64 || stored_size == kIn64 || header_offset == kIn64) zip64 = find_zip64(extra, reader);
  record.size = widen(size, zip64, reader);
  record.stored_size = widen(stored_size, zip64, reader);
  record.header_offset = widen(header_offset, zip64, reader);
  if (field<std::uint16_t>(fixed, 34) != 0) reader.fail("a zip of several parts", Code::unsupported);
  return record;
}

}  // namespace

Directory find_directory(const ReadAt& file, const Limits& limits) {
  Tail tail = read_tail(file, kTailSize);
  auto end_offset = find_end(tail, file.size());
  if (end_offset != file.size() - kEndSize) {  // none, or one with a comment, which may push the others out of the tail
    tail = read_tail(file, kTailSize + kMaxComment);
    end_offset = find_end(tail, file.size());
  }
  if (!end_offset) fail(file.name(), file.size(), "the zip's end record is missing: the file is cut off or not a zip");
  const Bytes end = tail.at(*end_offset);
  Directory directory{field<std::uint32_t>(end, 16), field<std::uint32_t>(end, 12), field<std::uint16_t>(end, 10)};
  const bool has_locator = *end_offset - tail.offset >= kLocatorSize &&
                           field<std::uint32_t>(tail.at(*end_offset - kLocatorSize), 0) == kLocatorSignature;
  if (has_locator) {
    directory = read_end64(file, tail, *end_offset);
  } else if (directory.offset + directory.size != *end_offset) {
    const std::uint64_t place = *end_offset - std::min(directory.size, *end_offset);
    if (directory.size >= kCentralSize && directory.offset < place && has_signature(file, place, kCentralSignature)) {
      check_several(file, place - directory.offset);
    }
    fail(file.name(), *end_offset,
         fmt::format("the directory ({} bytes at {}) does not end where the end record begins", directory.size,
                     directory.offset));
  }
  if (field<std::uint32_t>(end, 4) != 0) fail(file.name(), *end_offset, "a zip of several parts", Code::unsupported);
  if (directory.count > limits.max_records) {
    fail(
        file.name(), *end_offset,
        fmt::format("{} records, more than the limit of {} (Limits::max_records)", directory.count, limits.max_records),
        Code::refused);
  }
  if (directory.count > directory.size / kCentralSize) {
    fail(file.name(), *end_offset,
         fmt::format("{} records in a directory of {} bytes", directory.count, directory.size));
  }
  return directory;
}

LargeVector<Record> parse_directory(Bytes bytes, const Directory& directory, const std::string& file) {
  ByteReader reader(bytes, {.file = file, .record = {}, .offset = {}, .key = {}}, directory.offset);
  LargeVector<Record> records;
  records.reserve(static_cast<std::size_t>(directory.count));
  for (std::uint64_t i = 0; i < directory.count; ++i) records.push_back(parse_entry(reader));
  if (reader.remaining() != 0) reader.fail("bytes after the last entry of the directory");
  return records;
}

}  // namespace torchkeep::zip
