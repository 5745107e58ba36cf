// SPDX-License-Identifier: BSD-3-Clause
// The bytes under tensors. Several tensors may view one storage; where its bytes come from is the subclass's business.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include <torchkeep/base/bytes.h>

namespace torchkeep {

/// Reads the bytes of a storage once, from front to back.
class StorageReader {
 public:
  virtual ~StorageReader() = default;
  /// Fills `out` with the next bytes. Throws what Storage::read() throws.
  virtual void read(MutableBytes out) = 0;
};

/// A run of bytes that tensors view: memory we own, a live tensor's memory, a record of a file, a device.
/// Immutable through this interface; reading is safe from several threads at once.
class Storage {
 public:
  virtual ~Storage() = default;
  /// Number of bytes.
  virtual std::uint64_t nbytes() const noexcept = 0;
  /// Copies bytes [offset, offset + out.size()) into `out`. Throws Error when that fails (I/O, checksum, range).
  virtual void read(std::uint64_t offset, MutableBytes out) const = 0;
  /// A faster way to read all of it in turn than one read() after another; null where there is none. The bytes must not
  /// change before the last one was read.
  virtual std::unique_ptr<StorageReader> reader() const { return nullptr; }
  /// Returns when all has happened that the calling thread has asked a device to do with these bytes.
  virtual void settle() const {}
  /// All bytes, when they lie in memory that the CPU can read for as long as this storage lives; else nullptr.
  virtual const std::byte* data() const noexcept { return nullptr; }
  /// The same memory, when its owner wants it overwritten by load_into(); else nullptr.
  virtual std::byte* writable() const noexcept { return nullptr; }
  /// True: nobody writes to it any more, so that a save may read it at any time.
  virtual bool is_private() const noexcept { return false; }
  /// Two storages with equal identity are the same memory: they are written once and stay shared after a load.
  virtual const void* identity() const noexcept { return this; }
  /// Where PyTorch keeps it: "cpu", "cuda:0", "mps", "meta".
  virtual const std::string& location() const noexcept;
  /// False for a MetaStorage alone: its tensors have a shape and no values. What a file says of a device decides
  /// nothing: a storage that has bytes is held to them, whatever its location().
  virtual bool has_bytes() const noexcept { return true; }
};

using StoragePtr = std::shared_ptr<const Storage>;

/// Memory owned by the storage, 64-byte aligned, uninitialised at first.
class OwnedStorage final : public Storage {
 public:
  /// Throws Error (refused) when the memory cannot be had.
  explicit OwnedStorage(std::uint64_t nbytes, std::string location = "cpu");
  /// A copy of `bytes`.
  explicit OwnedStorage(Bytes bytes, std::string location = "cpu");

  std::uint64_t nbytes() const noexcept override { return nbytes_; }
  void read(std::uint64_t offset, MutableBytes out) const override;
  const std::byte* data() const noexcept override { return data_.get(); }
  bool is_private() const noexcept override { return true; }
  const std::string& location() const noexcept override { return location_; }
  /// For the one who fills it, before it is shared.
  MutableBytes mutable_bytes() noexcept { return {data_.get(), static_cast<std::size_t>(nbytes_)}; }

 private:
  struct Free {
    void operator()(std::byte* memory) const noexcept;
  };
  std::unique_ptr<std::byte, Free> data_;
  std::uint64_t nbytes_;
  std::string location_;
};

/// Memory of the caller's, which load_into() may overwrite.
class BorrowedStorage final : public Storage {
 public:
  /// `owner` is kept until the storage is destroyed; null when the memory outlives it anyway.
  explicit BorrowedStorage(MutableBytes memory, std::shared_ptr<const void> owner = nullptr)
      : memory_(memory), owner_(std::move(owner)) {}

  std::uint64_t nbytes() const noexcept override { return memory_.size(); }
  void read(std::uint64_t offset, MutableBytes out) const override;
  const std::byte* data() const noexcept override { return memory_.data(); }
  std::byte* writable() const noexcept override { return memory_.data(); }
  const void* identity() const noexcept override { return memory_.data(); }

 private:
  MutableBytes memory_;
  std::shared_ptr<const void> owner_;
};

/// The storage of a meta tensor, which has a shape, a dtype and no values.
class MetaStorage final : public Storage {
 public:
  std::uint64_t nbytes() const noexcept override { return 0; }
  /// Throws Error (unsupported).
  void read(std::uint64_t offset, MutableBytes out) const override;
  const std::string& location() const noexcept override;
  bool has_bytes() const noexcept override { return false; }
};

/// A copy of any storage in owned memory (same location text); of one without bytes, another one.
StoragePtr materialize(const Storage& storage);

}  // namespace torchkeep
