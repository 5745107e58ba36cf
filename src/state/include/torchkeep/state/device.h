// SPDX-License-Identifier: BSD-3-Clause
// Memory of a device that the CPU cannot read: it is copied through two buffers, one of which the device fills while
// the other is worked with.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>

#include <torchkeep/state/storage.h>

namespace torchkeep {

/// Copies from one device to memory of the CPU, queued one behind the other on a stream of their own. This is all that
/// is known of a device here; the front that knows it implements it. One thread at a time.
class DeviceCopies {
 public:
  static constexpr std::size_t kBuffers = 2;

  virtual ~DeviceCopies() = default;
  /// Memory that copies go to, of the same size for each of the kBuffers: page-locked, where the device can write to
  /// such memory without the CPU.
  virtual MutableBytes buffer(std::size_t index) noexcept = 0;
  /// Copies that are started from now on come after all that the calling thread has queued for the device so far.
  virtual void follow_caller() = 0;
  /// Begins to copy `size` bytes at `from`, an address of the device, to the beginning of a buffer. Does not wait.
  virtual void start(std::size_t buffer, const void* from, std::size_t size) = 0;
  /// Returns when the copy to this buffer is done.
  virtual void wait(std::size_t buffer) = 0;
};

/// Reads a stretch of a device's memory from front to back. What is ahead is on its way meanwhile, so the memory must
/// not change before the last byte was read. Throws what `copies` throws.
class DeviceReader final : public StorageReader {
 public:
  /// `from` is an address of the device. What the calling thread has queued for the device is waited for.
  DeviceReader(std::shared_ptr<DeviceCopies> copies, const void* from, std::uint64_t size);
  ~DeviceReader() override;
  DeviceReader(const DeviceReader&) = delete;
  DeviceReader& operator=(const DeviceReader&) = delete;

  void read(MutableBytes out) override;

 private:
  /// The part of the stretch that a buffer holds, or will hold.
  struct Piece {
    std::size_t size = 0;
    std::size_t taken = 0;
    bool under_way = false;
  };
  void start_next(std::size_t buffer);
  void settle() noexcept;

  std::shared_ptr<DeviceCopies> copies_;
  const std::byte* from_;  ///< what no copy was started of
  std::uint64_t left_;     ///< bytes from there on
  std::array<Piece, DeviceCopies::kBuffers> pieces_{};
  std::size_t current_ = 0;  ///< the buffer with the next byte
};

}  // namespace torchkeep
