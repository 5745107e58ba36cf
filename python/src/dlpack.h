// SPDX-License-Identifier: BSD-3-Clause
// The part of DLPack's C interface (version 0.8, stable) that hands a piece of memory to PyTorch as a tensor.
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

}  // namespace torchkeep::python
