// SPDX-License-Identifier: BSD-3-Clause
// The fixed parts of a zip file (APPNOTE 6.3), as torch.save lays them out, and how to load and store their fields.
//
//   +------------------------------+  each record, in this order
//   | local header (4.3.7)         |  30 bytes + name + extra; sizes and CRC are 0, they follow in the descriptor
//   | payload                      |  begins at a multiple of 64: extra holds "FB" + u16 length + that many 'Z'
//   | data descriptor (4.3.9)      |  16 bytes, 24 with zip64; none after an empty payload
//   +------------------------------+
//   | central entry (4.3.12) x n   |  46 bytes + name + [zip64 extra]: the truth about names, sizes, offsets, CRCs
//   +------------------------------+
//   | zip64 end record (4.3.14)    |  56 bytes   } torch.save writes these two
//   | zip64 locator (4.3.15)       |  20 bytes   } for the smallest file too
//   | end record (4.3.16)          |  22 bytes + comment
//   +------------------------------+
#pragma once

#include <concepts>
#include <cstdint>
#include <cstring>
#include <string>

#include <torchkeep/base/bytes.h>

namespace torchkeep::zip {

// Local header: signature 0, needed 4, flags 6, method 8, time 10, date 12, crc 14, compressed 18, size 22,
// name length 26, extra length 28.
inline constexpr std::uint32_t kLocalSignature = 0x04034b50;
inline constexpr std::size_t kLocalSize = 30;

// Data descriptor: signature 0, crc 4, compressed 8, size 12 (with zip64: 16).
inline constexpr std::uint32_t kDescriptorSignature = 0x08074b50;

// Central entry: signature 0, made by 4, needed 6, flags 8, method 10, time 12, date 14, crc 16, compressed 20, size
// 24, name length 28, extra length 30, comment length 32, disk 34, internal 36, external 38, header offset 42.
inline constexpr std::uint32_t kCentralSignature = 0x02014b50;
inline constexpr std::size_t kCentralSize = 46;

// zip64 end record: signature 0, size of the rest 4, made by 12, needed 14, disk 16, directory's disk 20, entries here
// 24, entries 32, directory size 40, directory offset 48.
inline constexpr std::uint32_t kEnd64Signature = 0x06064b50;
inline constexpr std::size_t kEnd64Size = 56;

// zip64 locator: signature 0, disk 4, offset of the zip64 end record 8, disks 16.
inline constexpr std::uint32_t kLocatorSignature = 0x07064b50;
inline constexpr std::size_t kLocatorSize = 20;

// End record: signature 0, disk 4, directory's disk 6, entries here 8, entries 10, directory size 12, directory offset
// 16, comment length 20.
inline constexpr std::uint32_t kEndSignature = 0x06054b50;
inline constexpr std::size_t kEndSize = 22;

inline constexpr std::uint16_t kZip64Tag = 0x0001;
inline constexpr std::uint16_t kPaddingTag = 0x4246;  // "FB"
inline constexpr char kPaddingByte = 'Z';

inline constexpr std::uint16_t kFlagEncrypted = 0x0001;
inline constexpr std::uint16_t kFlagsEncrypted = 0x2061;  // in one of three ways, or a patch of another file
inline constexpr std::uint16_t kFlagDescriptor = 0x0008;
inline constexpr std::uint16_t kFlagUtf8 = 0x0800;
inline constexpr std::uint16_t kMethodStored = 0;
inline constexpr std::uint16_t kMethodDeflated = 8;

/// A 16- or 32-bit field that holds this says: the value is in the zip64 extra.
inline constexpr std::uint16_t kIn64Short = 0xffff;
inline constexpr std::uint32_t kIn64 = 0xffffffff;

/// The little-endian field at `offset`, which the caller has checked to lie inside `bytes`.
template <std::unsigned_integral T>
T field(Bytes bytes, std::size_t offset) noexcept {
  T value;
  std::memcpy(&value, bytes.data() + offset, sizeof(T));
  return value;
}

/// Appends a field.
template <std::unsigned_integral T>
void put(std::string& out, T value) {
  char bytes[sizeof(T)];
  std::memcpy(bytes, &value, sizeof(T));
  out.append(bytes, sizeof(T));
}

/// A header of `Size` bytes, all 0 but for the fields set; appended at once.
template <std::size_t Size>
struct Fields {
  char bytes[Size] = {};

  template <std::unsigned_integral T>
  Fields& set(std::size_t offset, T value) noexcept {
    std::memcpy(bytes + offset, &value, sizeof(T));
    return *this;
  }
};

}  // namespace torchkeep::zip
