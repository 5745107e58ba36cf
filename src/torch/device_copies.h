// SPDX-License-Identifier: BSD-3-Clause
// Copies from a device through LibTorch's own streams, events and page-locked memory: CUDA, and what else it knows.
#pragma once

#include <memory>

#include <c10/core/Device.h>

#include <torchkeep/state/device.h>

namespace torchkeep {

/// Buffers and a stream for copies from this device. They are made once and go back for the next user when the last
/// pointer is gone; several users at a time get their own. Throws c10::Error where the device cannot be used.
std::shared_ptr<DeviceCopies> device_copies(c10::Device device);

/// Returns when the device has done all that was queued on this thread's current stream.
void synchronize_current_stream(c10::Device device);

}  // namespace torchkeep
