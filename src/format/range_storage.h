// SPDX-License-Identifier: BSD-3-Clause
// Storages of files that are not zips: a range of the file's bytes, and one whose bytes are in the other order.
#pragma once

#include <memory>
#include <string>

#include <torchkeep/state/dtype.h>
#include <torchkeep/state/storage.h>

namespace torchkeep::detail {

/// Bytes of a file. Where they begin may be set later, for a reader learns that after it has met the storage.
class RangeStorage final : public Storage {
 public:
  RangeStorage(std::shared_ptr<const ReadAt> file, std::uint64_t nbytes, std::string location)
      : file_(std::move(file)), nbytes_(nbytes), location_(std::move(location)) {}
  /// Bytes [begin, begin + nbytes) of the file, which the caller has checked to exist.
  void set_begin(std::uint64_t begin) noexcept { begin_ = begin; }

  std::uint64_t nbytes() const noexcept override { return nbytes_; }
  void read(std::uint64_t offset, MutableBytes out) const override;
  const std::string& location() const noexcept override { return location_; }

 private:
  std::shared_ptr<const ReadAt> file_;
  std::uint64_t begin_ = 0;
  std::uint64_t nbytes_;
  std::string location_;
};

/// A storage of a big-endian file: each number turned around while it is read.
class SwappedStorage final : public Storage {
 public:
  explicit SwappedStorage(StoragePtr base) : base_(std::move(base)) {}
  /// Says what its numbers are. Throws Error (unsupported) when they were said to be of another size before.
  void set_dtype(DType dtype);

  std::uint64_t nbytes() const noexcept override { return base_->nbytes(); }
  void read(std::uint64_t offset, MutableBytes out) const override;
  const void* identity() const noexcept override { return base_->identity(); }
  const std::string& location() const noexcept override { return base_->location(); }

 private:
  StoragePtr base_;
  std::size_t size_ = 0;  // of one number; 0: not known yet
};

/// Turns every number of `size` bytes around.
void swap_bytes(MutableBytes bytes, std::size_t size) noexcept;

}  // namespace torchkeep::detail
