// SPDX-License-Identifier: BSD-3-Clause
// The few names of PyTorch that the bindings use, looked up at run time: nothing here links LibTorch.
#pragma once

#include <array>
#include <optional>
#include <unordered_map>

#include <torchkeep/state/dtype.h>

#include "dlpack.h"
#include "python.h"

namespace torchkeep::python {

/// The address of the StorageImpl behind a tensor; null for one that has none (sparse, nested).
const void* storage_address(PyObject* tensor);

/// PyTorch's types and functions, imported once and kept until the process ends.
class Torch {
 public:
  /// Imports torch when nobody has; throws ImportError.
  static const Torch& get();
  /// Null as long as nobody has imported torch: then no object can be a tensor.
  static const Torch* if_imported();

  bool is_tensor(PyTypeObject* type) const noexcept { return type == tensor || type == parameter; }
  /// The dtype of a torch.dtype; nothing for one torchkeep does not know.
  std::optional<DType> dtype_of(PyObject* dtype) const;
  /// The torch.dtype; throws Error (unsupported) where this PyTorch lacks it.
  const nb::object& dtype(DType dtype) const;

  PyTypeObject* tensor;
  PyTypeObject* parameter;
  PyTypeObject* size;
  PyTypeObject* dtype_type;
  PyTypeObject* device;
  PyTypeObject* layout;
  PyTypeObject* typed_storage;
  PyTypeObject* untyped_storage;
  const DLPackExchangeApi* exchange;  ///< null in a PyTorch that lacks it
  nb::object strided;                 ///< torch.strided
  nb::object from_dlpack;             ///< capsule -> tensor
  nb::object empty;                   ///< torch.empty
  nb::object make_subclass;           ///< torch.Tensor._make_subclass
  nb::object helpers;                 ///< torchkeep._tensors: the rare cases, in Python

 private:
  Torch();

  std::unordered_map<PyObject*, DType> dtypes_;
  std::array<nb::object, 64> by_dtype_;
};

}  // namespace torchkeep::python
