// SPDX-License-Identifier: BSD-3-Clause
// The zip container of torch.save: stored records, 64-byte aligned, always with zip64 end records.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <torchkeep/base/bytes.h>
#include <torchkeep/format/plan.h>
#include <torchkeep/format/pt.h>
#include <unordered_map>
#include <vector>

namespace torchkeep::zip {

/// Builds the Plan of a zip record by record, in torch.save's exact byte layout.
class Writer {
 public:
  /// `root` is the folder every record lies in.
  explicit Writer(std::string root, std::uint64_t alignment = 64);
  /// A record whose bytes are at hand.
  void add(std::string_view name, std::string_view bytes);
  /// A record whose bytes are a storage's.
  void add(std::string_view name, StoragePtr payload);
  /// Writes the directory. Call once, last.
  Plan finish() &&;

 private:
  struct Central;
  Plan plan_;
  std::string root_;
  std::uint64_t alignment_;
  std::vector<Central> records_;
};

/// A record of the directory.
struct Record {
  std::string name;               ///< without the root folder
  std::uint64_t data_offset = 0;  ///< of the payload in the file
  std::uint64_t stored_size = 0;
  std::uint64_t size = 0;         ///< after inflating; equal to stored_size when method is 0
  std::uint32_t crc = 0;          ///< 0 may mean "not computed"
  std::uint16_t method = 0;       ///< 0 stored, 8 deflate
};

/// The directory of a zip, fully checked: local headers agree with the central ones, nothing overlaps, no duplicates.
class Reader {
 public:
  Reader(std::shared_ptr<const ReadAt> file, const Limits& limits);
  const std::string& root() const noexcept { return root_; }
  const std::vector<Record>& records() const noexcept { return records_; }
  const Record* find(std::string_view name) const;
  /// A record's bytes, inflated if need be, CRC checked when `verify`.
  std::string read(const Record& record, bool verify) const;
  const std::shared_ptr<const ReadAt>& file() const noexcept { return file_; }

 private:
  std::shared_ptr<const ReadAt> file_;
  std::string root_;
  std::vector<Record> records_;
  std::unordered_map<std::string_view, std::size_t> index_;
};

}  // namespace torchkeep::zip
