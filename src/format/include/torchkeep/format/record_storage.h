// SPDX-License-Identifier: BSD-3-Clause
// A storage whose bytes are still in the file it was saved to.
#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <string_view>

#include <torchkeep/state/storage.h>

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
  /// The bytes once load_storages() has read them; nullptr before.
  const std::byte* data() const noexcept override { return memory_.get(); }
  const std::string& location() const noexcept override;

 private:
  friend class StorageLoader;
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

/// Reads these storages (of one file) into memory, in the order of the file and each byte once, checking local headers
/// and CRCs on the way. Small neighbours are read together. Afterwards they do not hold the file open.
/// Not safe while another thread uses one of them.
void load_storages(std::span<const std::shared_ptr<RecordStorage>> storages);

}  // namespace torchkeep
