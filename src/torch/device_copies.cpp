// SPDX-License-Identifier: BSD-3-Clause
// Nothing here is CUDA's own: LibTorch's guards and events lead to whatever device the tensor is on, so a build without
// CUDA compiles the same lines.
#include "device_copies.h"

#include <array>
#include <map>
#include <mutex>
#include <unistd.h>
#include <vector>

#include <ATen/ATen.h>
#include <c10/core/Event.h>
#include <c10/core/StreamGuard.h>
#include <c10/core/impl/VirtualGuardImpl.h>

#include <torchkeep/base/per_process.h>

#include "errors.h"

namespace torchkeep {
namespace {

// One piece: long enough for the bus, short enough for two of them to stay in the L2 cache.
constexpr std::int64_t kPiece = std::int64_t{1} << 20;

c10::Stream current_stream(c10::Device device) {
  return c10::impl::VirtualGuardImpl(device.type()).getStream(device);
}

/// A stream of our own; the program's where the device has one only.
c10::Stream own_stream(c10::Device device) {
  try {
    return c10::impl::VirtualGuardImpl(device.type()).getStreamFromGlobalPool(device);
  } catch (const c10::Error&) {
    return current_stream(device);
  }
}

/// Page-locked; plain memory where the device has no such.
at::Tensor staging_memory() {
  const at::TensorOptions options(at::kByte);
  try {
    return at::empty({kPiece}, options.pinned_memory(true));
  } catch (const c10::Error&) {
    return at::empty({kPiece}, options);
  }
}

class StreamCopies final : public DeviceCopies {
 public:
  explicit StreamCopies(c10::Device device)
      : device_(device),
        stream_(own_stream(device)),
        before_(device.type()),
        buffers_{staging_memory(), staging_memory()},
        done_{c10::Event(device.type()), c10::Event(device.type())} {}

  MutableBytes buffer(std::size_t index) noexcept override {
    return {static_cast<std::byte*>(buffers_[index].data_ptr()), static_cast<std::size_t>(kPiece)};
  }

  void follow_caller() override {
    at_the_edge([&] {
      before_.record(current_stream(device_));
      before_.block(stream_);
    });
  }

  void start(std::size_t buffer, const void* from, std::size_t size) override {
    at_the_edge([&] {
      const c10::InferenceMode no_gradients;
      const c10::StreamGuard ours(stream_);
      const auto count = static_cast<std::int64_t>(size);
      const at::Tensor there = at::for_blob(const_cast<void*>(from), {count})  // for_blob takes no const
                                   .options(at::TensorOptions(at::kByte).device(device_))
                                   .target_device(device_)
                                   .make_tensor();
      buffers_[buffer].narrow(0, 0, count).copy_(there, /*non_blocking=*/true);
      done_[buffer].record(stream_);
    });
  }

  void wait(std::size_t buffer) override {
    at_the_edge([&] { done_[buffer].synchronize(); });
  }

 private:
  c10::Device device_;
  c10::Stream stream_;
  c10::Event before_;
  std::array<at::Tensor, kBuffers> buffers_;
  std::array<c10::Event, kBuffers> done_;
};

/// Those that nobody uses, by device, of one process.
class Spares final {
 public:
  std::unique_ptr<StreamCopies> take(c10::Device device) {
    const std::lock_guard lock(mutex_);
    auto& there = spares_[device.str()];
    if (there.empty()) return nullptr;
    auto copies = std::move(there.back());
    there.pop_back();
    return copies;
  }
  void give(c10::Device device, std::unique_ptr<StreamCopies> copies) {
    const std::lock_guard lock(mutex_);
    spares_[device.str()].push_back(std::move(copies));
  }

 private:
  std::mutex mutex_;
  std::map<std::string, std::vector<std::unique_ptr<StreamCopies>>> spares_;
};

/// Never destroyed: at exit the device's driver may be gone before it.
Spares& spares() {
  return per_process<Spares>();
}

}  // namespace

std::shared_ptr<DeviceCopies> device_copies(c10::Device device) {
  auto copies = spares().take(device);
  if (copies == nullptr) copies = std::make_unique<StreamCopies>(device);
  return {copies.release(), [owner = ::getpid(), device](StreamCopies* used) {
            // In a forked child they are its parent's, and so is the device.
            if (owner == ::getpid()) spares().give(device, std::unique_ptr<StreamCopies>(used));
          }};
}

void synchronize_current_stream(c10::Device device) {
  c10::impl::VirtualGuardImpl(device.type()).synchronizeStream(current_stream(device));
}

}  // namespace torchkeep
