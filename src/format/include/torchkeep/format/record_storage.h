// SPDX-License-Identifier: BSD-3-Clause
// A storage whose bytes are still in the file it was saved to.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include <torchkeep/state/storage.h>
#include <torchkeep/state/tensor.h>

namespace torchkeep {

namespace zip {
class Reader;
struct Record;
}  // namespace zip

/// A record of a zip file as a Storage. Reading all of it checks its CRC in the same pass; the first read of a part
/// checks the whole record once, later ones do not.
class RecordStorage final : public Storage {
 public:
  /// `location` is null for "cpu". `record` is one of `zip`'s.
  RecordStorage(std::shared_ptr<const zip::Reader> zip, const zip::Record& record,
                std::shared_ptr<const std::string> location, bool verify);
  ~RecordStorage() override;

  std::uint64_t nbytes() const noexcept override { return nbytes_; }
  void read(std::uint64_t offset, MutableBytes out) const override;
  /// The bytes once load_storages() has read them, or where the file is mapped: then the first call checks the CRC.
  /// Else, and for a damaged record, nullptr; read() says what is wrong. Of an empty record, nullptr.
  const std::byte* data() const noexcept override;
  const std::string& location() const noexcept override;
  /// The record's name ("data/3"), as long as its bytes have not been read into memory.
  std::string_view record_name() const noexcept;
  /// Bytes that lie in the file as they are.
  struct Stored {
    std::uint64_t offset = 0;  ///< in the file
    std::uint32_t crc = 0;     ///< of all of them; 0: not computed
  };
  /// Where they lie; nothing for a deflated record and for one that is in memory. Reads and checks the local header.
  std::optional<Stored> stored() const;

 private:
  friend class RecordAccess;
  void prepare() const;

  std::shared_ptr<const zip::Reader> zip_;  // null once the bytes are in memory
  const zip::Record* record_;
  std::uint64_t nbytes_;
  std::shared_ptr<const std::string> location_;
  std::shared_ptr<const std::byte> memory_;
  bool verify_;
  mutable std::once_flag prepared_;
  mutable std::uint64_t data_offset_ = 0;  // of the payload in the file, once prepared_
};

/// Reads these storages into memory, in the order of the file and each byte once, checking local headers and CRCs on
/// the way, by at most `threads` threads (0: one per core; more than one: four at least where the bytes come from the
/// disk). Small neighbours are read together. Afterwards they do not hold the file open. Not safe while another thread
/// uses one of them.
void load_storages(std::span<const std::shared_ptr<RecordStorage>> storages, unsigned threads = 0);

/// Throws what load_storages() would throw, and keeps nothing.
void check_storages(std::span<const std::shared_ptr<RecordStorage>> storages, unsigned threads = 0);

/// Bytes of a storage, wanted in memory of the caller's.
struct ReadRequest {
  StoragePtr storage;
  std::uint64_t offset = 0;  ///< of the first byte wanted
  MutableBytes out = {};
  std::atomic<bool>* overwritten = nullptr;  ///< set before the first byte of `out` is overwritten
};

/// What fills the writable memory of `live` with the elements of `file`: nothing unless both have the same dtype and
/// sizes, and their elements lie in the same order, without gaps. Throws what Tensor::extent() throws, of either.
std::optional<ReadRequest> request_in_place(const Tensor& file, const Tensor& live);

/// Fills every `out`. Records of a file that are wanted whole are read straight into place, in the order of the file
/// and by at most `threads` threads (0: one per core), and their CRCs checked in the same pass; other storages one by
/// one. The memory of the requests must not overlap. Throws what Storage::read throws; `out` may hold anything then.
void read_storages(std::span<const ReadRequest> requests, unsigned threads = 0);

}  // namespace torchkeep
