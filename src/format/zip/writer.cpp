// SPDX-License-Identifier: BSD-3-Clause
// Lays out a zip exactly as PyTorch's writer (miniz) does, so that torch.load may compute offsets instead of reading
// them.
#include <fmt/format.h>

#include <torchkeep/base/crc32.h>

#include "records.h"
#include "zip.h"

namespace torchkeep::zip {
namespace {

bool is_big(std::uint64_t value) noexcept {
  return value >= kIn64;
}

std::uint32_t low32(std::uint64_t value) noexcept {
  return is_big(value) ? kIn64 : static_cast<std::uint32_t>(value);
}

}  // namespace

bool Writer::Entry::has_big_size() const noexcept {
  return is_big(size);
}

bool Writer::Entry::has_big_offset() const noexcept {
  return is_big(offset);
}

// Bytes of the zip64 block behind its tag and length: the same in both headers.
std::uint16_t Writer::Entry::zip64_size() const noexcept {
  return 16 * has_big_size() + 8 * has_big_offset();
}

std::uint16_t Writer::Entry::flags() const noexcept {
  return kFlagUtf8 | (size != 0 ? kFlagDescriptor : 0);
}

Writer::Writer(std::string root, std::uint64_t alignment) : root_(std::move(root) + '/'), alignment_(alignment) {
  if (alignment == 0 || alignment > 65536) {
    throw Error(Code::invalid_argument, fmt::format("zip alignment {} is not between 1 and 65536", alignment));
  }
}

void Writer::reserve(std::size_t records, std::size_t literal_bytes) {
  plan_.literals.reserve(literal_bytes);
  plan_.extents.reserve(2 * records);
  plan_.payloads.reserve(records);
  plan_.patches.reserve(2 * records);
  entries_.reserve(records);
}

// The literals from `first` on belong at the end of the file: one more extent, or more of the last one.
void Writer::extend_literal(std::size_t first) {
  const std::uint64_t size = plan_.literals.size() - first;
  if (!plan_.extents.empty() && !plan_.extents.back().is_payload)
    plan_.extents.back().size += size;
  else
    plan_.extents.push_back({plan_.file_size, size, first, false});
  plan_.file_size += size;
}

Writer::Entry Writer::begin(std::string_view name, std::uint64_t size) {
  const std::size_t name_size = root_.size() + name.size();
  if (name_size > 0xffff) throw Error(Code::invalid_argument, fmt::format("a zip record name of {} bytes", name_size));
  std::string& out = plan_.literals;
  const Entry entry{plan_.file_size, size, out.size(), 0, kNoPayload, false};
  const std::uint64_t extra_size = 4 + (entry.has_zip64() ? 4 + entry.zip64_size() : 0);
  const std::uint64_t beyond = (entry.offset + kLocalSize + name_size + extra_size) % alignment_;
  const std::uint64_t padding = beyond == 0 ? 0 : alignment_ - beyond;

  Fields<kLocalSize> fixed;
  fixed.set(0, kLocalSignature).set(6, entry.flags()).set(26, static_cast<std::uint16_t>(name_size));
  fixed.set(28, static_cast<std::uint16_t>(extra_size + padding));
  out.append(fixed.bytes, kLocalSize).append(root_).append(name);
  if (entry.has_zip64()) {
    put(out, kZip64Tag);
    put(out, entry.zip64_size());
    if (entry.has_big_size()) put(out, size), put(out, std::uint64_t{0});  // the second: not known before the payload
    if (entry.has_big_offset()) put(out, entry.offset);
  }
  put(out, kPaddingTag);
  put(out, static_cast<std::uint16_t>(padding));
  out.append(padding, kPaddingByte);
  extend_literal(entry.literal);
  return entry;
}

void Writer::add(std::string_view name, std::string_view bytes) {
  Entry entry = begin(name, bytes.size());
  entry.crc = crc32(as_bytes(bytes));
  const std::size_t first = plan_.literals.size();
  plan_.literals.append(bytes);
  extend_literal(first);
  end(entry);
}

std::uint64_t Writer::add(std::string_view name, StoragePtr payload, std::uint64_t nbytes) {
  Entry entry = begin(name, nbytes);
  entry.is_storage = true;
  const std::uint64_t offset = plan_.file_size;
  if (nbytes != 0) {
    entry.payload = static_cast<std::uint32_t>(plan_.payloads.size());
    plan_.payloads.push_back(std::move(payload));
    plan_.extents.push_back({plan_.file_size, nbytes, entry.payload, true});
    plan_.file_size += nbytes;
  }
  end(entry);
  return offset;
}

// What stands behind the payload.
void Writer::end(const Entry& entry) {
  if (entry.size != 0) write_descriptor(entry);
  entries_.push_back(entry);
}

void Writer::write_descriptor(const Entry& entry) {
  std::string& out = plan_.literals;
  const std::size_t first = out.size();
  if (entry.payload != kNoPayload) plan_.patches.push_back({first + 4, entry.payload});
  Fields<24> fixed;
  fixed.set(0, kDescriptorSignature).set(4, entry.crc);
  if (entry.has_zip64()) {
    fixed.set(8, entry.size).set(16, entry.size);
    out.append(fixed.bytes, 24);
  } else {
    fixed.set(8, static_cast<std::uint32_t>(entry.size)).set(12, static_cast<std::uint32_t>(entry.size));
    out.append(fixed.bytes, 16);
  }
  extend_literal(first);
}

void Writer::write_central(const Entry& entry) {
  std::string& out = plan_.literals;
  if (entry.payload != kNoPayload) plan_.patches.push_back({out.size() + 16, entry.payload});
  const auto name_size = field<std::uint16_t>(as_bytes(out), entry.literal + 26);
  Fields<kCentralSize> fixed;
  fixed.set(0, kCentralSignature).set(8, entry.flags()).set(16, entry.crc);
  fixed.set(20, low32(entry.size)).set(24, low32(entry.size)).set(42, low32(entry.offset));
  fixed.set(28, name_size);
  fixed.set(30, static_cast<std::uint16_t>(entry.has_zip64() ? 4 + entry.zip64_size() : 0));
  out.append(fixed.bytes, kCentralSize).append(out, entry.literal + kLocalSize, name_size);
  if (!entry.has_zip64()) return;
  put(out, kZip64Tag);
  put(out, entry.zip64_size());
  if (entry.has_big_size()) put(out, entry.size), put(out, entry.size);
  if (entry.has_big_offset()) put(out, entry.offset);
}

Plan Writer::finish() && {
  write_directory(entries_, 0);
  return std::move(plan_);
}

void Writer::begin_inner(std::uint64_t alignment) {
  const std::uint64_t beyond = plan_.file_size % alignment;
  if (beyond != 0) {
    const std::size_t first = plan_.literals.size();
    plan_.literals.append(static_cast<std::size_t>(alignment - beyond), '\0');
    extend_literal(first);
  }
  inner_begin_ = plan_.file_size;
  outer_ = std::exchange(entries_, {});
}

ByteRange Writer::end_inner() {
  write_directory(entries_, inner_begin_);
  for (const Entry& entry : entries_) {
    if (entry.is_storage) outer_.push_back(entry);
  }
  entries_ = std::exchange(outer_, {});
  return {inner_begin_, plan_.file_size - inner_begin_};
}

// The directory of a zip that begins at `begin`, from which offsets in it count.
void Writer::write_directory(std::span<const Entry> entries, std::uint64_t begin) {
  const std::size_t first = plan_.literals.size();
  for (Entry entry : entries) {
    entry.offset -= begin;
    write_central(entry);
  }
  write_end_records(entries.size(), plan_.file_size - begin, plan_.literals.size() - first);
  extend_literal(first);
}

void Writer::write_end_records(std::uint64_t count, std::uint64_t directory_offset, std::uint64_t directory_size) {
  std::string& out = plan_.literals;
  Fields<kEnd64Size> end64;
  end64.set(0, kEnd64Signature).set(4, std::uint64_t{kEnd64Size - 12});
  end64.set(12, std::uint16_t{0x031e}).set(14, std::uint16_t{0x002d});
  end64.set(24, count).set(32, count).set(40, directory_size).set(48, directory_offset);
  out.append(end64.bytes, kEnd64Size);

  Fields<kLocatorSize> locator;
  locator.set(0, kLocatorSignature).set(8, directory_offset + directory_size).set(16, std::uint32_t{1});
  out.append(locator.bytes, kLocatorSize);

  const auto count16 = static_cast<std::uint16_t>(count < kIn64Short ? count : kIn64Short);
  Fields<kEndSize> end;
  end.set(0, kEndSignature).set(8, count16).set(10, count16);
  end.set(12, low32(directory_size)).set(16, low32(directory_offset));
  out.append(end.bytes, kEndSize);
}

}  // namespace torchkeep::zip
