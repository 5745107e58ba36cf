// SPDX-License-Identifier: BSD-3-Clause
// Lays out a zip exactly as PyTorch's writer (miniz) does, so that torch.load may compute offsets instead of reading
// them.
#include <fmt/format.h>

#include <torchkeep/base/crc32.h>

#include "records.h"
#include "zip.h"

namespace torchkeep::zip {
namespace {

constexpr std::uint32_t kNoPayload = 0xffffffff;

bool is_big(std::uint64_t value) noexcept {
  return value >= kIn64;
}

std::uint32_t low32(std::uint64_t value) noexcept {
  return is_big(value) ? kIn64 : static_cast<std::uint32_t>(value);
}

}  // namespace

/// A record whose local header is written.
struct Writer::Header {
  std::string_view name;
  std::uint64_t size;
  std::uint64_t offset;
  std::uint16_t flags;
};

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
  directory_patches_.reserve(records);
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

Writer::Header Writer::begin(std::string_view name, std::uint64_t size) {
  const std::size_t name_size = root_.size() + name.size();
  if (name_size > 0xffff) throw Error(Code::invalid_argument, fmt::format("a zip record name of {} bytes", name_size));
  const Header header{name, size, plan_.file_size,
                      static_cast<std::uint16_t>(kFlagUtf8 | (size != 0 ? kFlagDescriptor : 0))};
  const bool big_size = is_big(size);
  const bool big_offset = is_big(header.offset);
  const std::uint64_t zip64_size = big_size || big_offset ? 4 + 16 * big_size + 8 * big_offset : 0;
  const std::uint64_t start = header.offset + kLocalSize + name_size + 4 + zip64_size;
  const std::uint64_t padding = (alignment_ - start % alignment_) % alignment_;

  std::string& out = plan_.literals;
  const std::size_t first = out.size();
  put(out, kLocalSignature);
  put(out, std::uint16_t{0});
  put(out, header.flags);
  out.append(18, '\0');  // method, time, date, crc, compressed size, size
  put(out, static_cast<std::uint16_t>(name_size));
  put(out, static_cast<std::uint16_t>(zip64_size + 4 + padding));
  out.append(root_).append(name);
  if (zip64_size != 0) {
    put(out, kZip64Tag);
    put(out, static_cast<std::uint16_t>(zip64_size - 4));
    if (big_size) put(out, size), put(out, std::uint64_t{0});
    if (big_offset) put(out, header.offset);
  }
  put(out, kPaddingTag);
  put(out, static_cast<std::uint16_t>(padding));
  out.append(padding, kPaddingByte);
  extend_literal(first);
  return header;
}

void Writer::add(std::string_view name, std::string_view bytes) {
  const Header header = begin(name, bytes.size());
  const std::size_t first = plan_.literals.size();
  plan_.literals.append(bytes);
  extend_literal(first);
  end(header, crc32(as_bytes(bytes)), kNoPayload);
}

void Writer::add(std::string_view name, StoragePtr payload) {
  const std::uint64_t size = payload->nbytes();
  const Header header = begin(name, size);
  if (size == 0) return end(header, 0, kNoPayload);
  const auto index = static_cast<std::uint32_t>(plan_.payloads.size());
  plan_.payloads.push_back(std::move(payload));
  plan_.extents.push_back({plan_.file_size, size, index, true});
  plan_.file_size += size;
  end(header, 0, index);
}

// The data descriptor and the central entry of a record whose payload is laid out.
void Writer::end(const Header& header, std::uint32_t crc, std::uint32_t payload) {
  const bool big_size = is_big(header.size);
  const bool big_offset = is_big(header.offset);
  if (header.size != 0) {
    std::string& out = plan_.literals;
    const std::size_t first = out.size();
    put(out, kDescriptorSignature);
    if (payload != kNoPayload) plan_.patches.push_back({out.size(), payload});
    put(out, crc);
    for (int i = 0; i < 2; ++i) {
      if (big_size || big_offset)
        put(out, header.size);
      else
        put(out, static_cast<std::uint32_t>(header.size));
    }
    extend_literal(first);
  }
  std::string& out = directory_;
  put(out, kCentralSignature);
  put(out, std::uint32_t{0});  // made by, needed
  put(out, header.flags);
  out.append(6, '\0');  // method, time, date
  if (payload != kNoPayload) directory_patches_.push_back({out.size(), payload});
  put(out, crc);
  put(out, low32(header.size));
  put(out, low32(header.size));
  put(out, static_cast<std::uint16_t>(root_.size() + header.name.size()));
  put(out, static_cast<std::uint16_t>(big_size || big_offset ? 4 + 16 * big_size + 8 * big_offset : 0));
  out.append(10, '\0');  // comment length, disk, attributes
  put(out, low32(header.offset));
  out.append(root_).append(header.name);
  if (big_size || big_offset) {
    put(out, kZip64Tag);
    put(out, static_cast<std::uint16_t>(16 * big_size + 8 * big_offset));
    if (big_size) put(out, header.size), put(out, header.size);
    if (big_offset) put(out, header.offset);
  }
  ++count_;
}

Plan Writer::finish() && {
  std::string& out = plan_.literals;
  const std::size_t first = out.size();
  const std::uint64_t directory_offset = plan_.file_size;
  const std::uint64_t end64_offset = directory_offset + directory_.size();
  for (CrcPatch patch : directory_patches_) {
    patch.literal_offset += first;
    plan_.patches.push_back(patch);
  }
  out.append(directory_);

  put(out, kEnd64Signature);
  put(out, std::uint64_t{kEnd64Size - 12});
  put(out, std::uint16_t{0x031e});
  put(out, std::uint16_t{0x002d});
  put(out, std::uint64_t{0});  // both disks
  put(out, count_);
  put(out, count_);
  put(out, std::uint64_t{directory_.size()});
  put(out, directory_offset);

  put(out, kLocatorSignature);
  put(out, std::uint32_t{0});
  put(out, end64_offset);
  put(out, std::uint32_t{1});

  const auto count16 = static_cast<std::uint16_t>(count_ < kIn64Short ? count_ : kIn64Short);
  put(out, kEndSignature);
  put(out, std::uint32_t{0});  // both disks
  put(out, count16);
  put(out, count16);
  put(out, low32(directory_.size()));
  put(out, low32(directory_offset));
  put(out, std::uint16_t{0});
  extend_literal(first);
  return std::move(plan_);
}

}  // namespace torchkeep::zip
