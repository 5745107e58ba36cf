// SPDX-License-Identifier: BSD-3-Clause
// The zip container of torch.save: stored records, 64-byte aligned, always with zip64 end records.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <torchkeep/base/bytes.h>
#include <torchkeep/base/memory.h>
#include <torchkeep/format/plan.h>
#include <torchkeep/format/pt.h>
#include <torchkeep/state/tensor.h>

namespace torchkeep::zip {

/// Builds the Plan of a zip record by record, in torch.save's exact byte layout.
class Writer {
 public:
  /// `root` is the folder every record lies in; `alignment` is where payloads begin, 1 to 65,536.
  explicit Writer(std::string root, std::uint64_t alignment = 64);
  /// A record whose bytes are at hand.
  void add(std::string_view name, std::string_view bytes);
  /// A record whose bytes are a storage's, of which there are `nbytes`. Returns where they begin in the file.
  std::uint64_t add(std::string_view name, StoragePtr payload, std::uint64_t nbytes);
  /// Asks for memory for this many records and literal bytes (headers, directory and records at hand) at once.
  void reserve(std::size_t records, std::size_t literal_bytes);
  /// What is added from here on belongs to a zip of its own, which begins at the next multiple of `alignment` (zeros
  /// fill the gap) and lies inside this one.
  void begin_inner(std::uint64_t alignment);
  /// Where payloads begin from here on.
  void set_alignment(std::uint64_t alignment) { alignment_ = alignment; }
  /// Writes the directory of the inner zip; its records that are payloads are records of this zip too. Its place.
  ByteRange end_inner();
  /// Bytes so far.
  std::uint64_t size() const noexcept { return plan_.file_size; }
  /// Payloads so far.
  std::size_t payloads() const noexcept { return plan_.payloads.size(); }
  /// Writes the directory. Call once, last.
  Plan finish() &&;

 private:
  /// What the directory will say about a record.
  struct Entry {
    std::uint64_t offset;  // of its local header
    std::uint64_t size;
    std::uint64_t literal;  // where its local header lies in Plan::literals, and with it the name
    std::uint32_t crc;
    std::uint32_t payload;  // whose CRC it is; kNoPayload: `crc` is known
    bool is_storage = false;

    bool has_big_size() const noexcept;
    bool has_big_offset() const noexcept;
    bool has_zip64() const noexcept { return has_big_size() || has_big_offset(); }
    std::uint16_t zip64_size() const noexcept;
    std::uint16_t flags() const noexcept;
  };
  static constexpr std::uint32_t kNoPayload = 0xffffffff;

  Entry begin(std::string_view name, std::uint64_t size);
  void end(const Entry& entry);
  void write_descriptor(const Entry& entry);
  void write_directory(std::span<const Entry> entries, std::uint64_t begin);
  void write_central(const Entry& entry);
  void write_end_records(std::uint64_t count, std::uint64_t directory_offset, std::uint64_t directory_size);
  void extend_literal(std::size_t first);

  Plan plan_;
  std::string root_;
  std::uint64_t alignment_;
  std::vector<Entry> entries_;
  std::vector<Entry> outer_;  // while an inner zip is written: the entries of the outer one
  std::uint64_t inner_begin_ = 0;
};

/// A record of the directory. What its local header says is checked when its bytes are first wanted.
struct Record {
  std::string_view name;            ///< without the root folder; lives as long as the Reader
  std::uint64_t header_offset = 0;  ///< of the local header in the file
  std::uint64_t limit = 0;          ///< where the next record or the directory begins
  std::uint64_t stored_size = 0;
  std::uint64_t size = 0;  ///< after inflating; equal to stored_size when method is 0
  std::uint32_t crc = 0;   ///< 0 may mean "not computed"
  std::uint16_t flags = 0;
  std::uint16_t method = 0;  ///< 0 stored, 8 deflated
};

/// The directory of a zip. Opening reads the end records and the directory in two or three reads, however many records
/// there are, and checks everything that can be checked without the records: counts, names, duplicates, overlap, sizes.
/// Local headers are checked when a record is read: 100,000 of them would cost 100,000 reads here, and whoever reads
/// payloads in bulk passes over them anyway (check_local).
class Reader {
 public:
  /// `map`: the whole file is mapped, where it can be.
  Reader(std::shared_ptr<const ReadAt> file, const Limits& limits, bool map = false);

  /// The folder of the first record, with the slash, and the first record that lies outside of it, or nullptr.
  const std::string& root() const noexcept { return folder_; }
  const Record* foreign() const noexcept { return foreign_; }
  /// The record's name with the root.
  std::string name(const Record& record) const { return root_ + std::string(record.name); }
  std::span<const Record> records() const noexcept { return records_; }
  /// The record called `name` (without the root), or nullptr. Looks first at the one behind `previous`, the record
  /// found before this: most files are read in their order.
  const Record* find(std::string_view name, const Record* previous = nullptr) const noexcept;
  const ReadAt& file() const noexcept { return *file_; }
  /// All bytes of the file, or nullptr when it is not mapped.
  const std::byte* mapping() const noexcept { return mapping_.get(); }

  /// Bytes that a local header without its extra field takes.
  std::uint64_t header_size(const Record& record) const noexcept;
  /// Compares the local header in `header` (at least header_size() bytes, from header_offset on) with the directory.
  /// Returns the offset of the payload in the file.
  std::uint64_t check_local(const Record& record, Bytes header) const;
  /// Reads and checks the local header; the offset of the payload in the file.
  std::uint64_t locate(const Record& record) const;
  /// Throws Error (corrupt) unless `crc` is the one of the directory, or that is 0 ("not computed").
  void check_crc(const Record& record, std::uint32_t crc) const;
  /// Fills `out` (record.size bytes) with the payload, inflated if need be, its CRC checked when `verify`.
  void read(const Record& record, MutableBytes out, bool verify) const;
  /// Throws Error (refused) when the payload is longer than `limit`.
  void check_size(const Record& record, std::uint64_t limit) const;
  /// The payload as a string; throws Error (refused) when it is longer than `limit`.
  std::string read(const Record& record, bool verify, std::uint64_t limit) const;
  /// Throws Error (corrupt) unless all that stands between the record's local header and the next record is what the
  /// directory says: flags, both zip64 blocks, the data descriptor; and not a byte that belongs to no record.
  void check_strictly(const Record& record) const;
  /// Where the first record begins.
  std::uint64_t begin() const noexcept;
  /// Throws an Error about this record.
  [[noreturn]] void fail(const Record& record, Code code, std::string message) const;

 private:
  void index_names();
  void check_layout(std::uint64_t directory_offset);
  void check_inflation(const Limits& limits) const;
  std::uint64_t check_room(Record& record, std::uint64_t limit) const;
  void check_local_zip64(const Record& record, Bytes extra, std::uint32_t size, std::uint32_t stored) const;
  void check_descriptor(const Record& record, std::uint64_t begin) const;

  std::shared_ptr<const ReadAt> file_;
  std::shared_ptr<const std::byte> mapping_;
  LargeVector<std::byte> directory_;  // the central entries; names point into it
  std::string folder_;                // of the first record, with the slash
  std::string root_;  // what was taken off the names: the folder, or nothing when a record lies outside of it
  const Record* foreign_ = nullptr;
  LargeVector<Record> records_;
  struct NameSlot {
    std::uint32_t hash = 0;    // of the name, its upper half: names are only looked at where it fits
    std::uint32_t record = 0;  // 1 + index; 0 is free
  };
  const Record* look_up(std::string_view name, std::uint64_t hash, std::size_t& slot) const noexcept;
  LargeVector<NameSlot> slots_;  // open addressing
  std::uint64_t seed_ = 0;
};

}  // namespace torchkeep::zip
