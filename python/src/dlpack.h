// SPDX-License-Identifier: BSD-3-Clause
// The parts of DLPack's C interface that hand a piece of memory to PyTorch as a tensor (version 0.8) and describe a
// live tensor (version 1).
#pragma once

#include <cstdint>

namespace torchkeep::python {

struct DLDevice {
  std::int32_t device_type;  ///< 1: CPU
  std::int32_t device_id;
};

struct DLDataType {
  std::uint8_t code;  ///< 0 int, 1 uint, 2 float, 4 bfloat, 5 complex, 6 bool
  std::uint8_t bits;
  std::uint16_t lanes;
};

struct DLTensor {
  void* data;
  DLDevice device;
  std::int32_t ndim;
  DLDataType dtype;
  std::int64_t* shape;
  std::int64_t* strides;
  std::uint64_t byte_offset;
};

struct DLManagedTensor {
  DLTensor dl_tensor;
  void* manager_ctx;
  void (*deleter)(DLManagedTensor*);
};

struct DLManagedTensorVersioned {
  std::uint32_t major;
  std::uint32_t minor;
  void* manager_ctx;
  void (*deleter)(DLManagedTensorVersioned*);
  std::uint64_t flags;
  DLTensor dl_tensor;
};

/// What torch.Tensor.__dlpack_c_exchange_api__ points to (PyTorch 2.10 and later, DLPack 1): C functions on tensors.
struct DLPackExchangeApi {
  std::uint32_t major;
  std::uint32_t minor;
  void* previous;
  void* allocate;
  void* take_from_object;
  /// Makes a tensor that takes the memory over; a new reference in `object`. 0, or -1 with an exception set.
  int (*give)(DLManagedTensorVersioned* tensor, void** object);
  /// Describes a live tensor without owning it; shape and strides are the tensor's own. 0, or -1 with an exception set.
  int (*look)(void* object, DLTensor* out);
  void* current_stream;
};

}  // namespace torchkeep::python
