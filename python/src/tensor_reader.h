// SPDX-License-Identifier: BSD-3-Clause
// torch.Tensor -> the tensor leaf of a Value.
#pragma once

#include <memory>
#include <vector>

#include <torchkeep/state/value.h>

#include "address_map.h"
#include "storages.h"
#include "torch_bridge.h"

namespace torchkeep::python {

struct ReaderOptions {
  /// The tensors' memory may be overwritten through the Value (load_into). That of devices is left alone then: such a
  /// tensor has no bytes.
  bool writable = false;
  const Watches* watches = nullptr;  ///< storages that become a WatchedStorage; it outlives the conversion
  /// Called for objects that are no plain data: (whether there is one, what stands in for it), or (None, None) for one
  /// that is to be left out. By default torchkeep._stand_in.exact.
  nb::object stand_in = {};
  bool* leaves_out = nullptr;  ///< set when there is something to leave out: an Opaque that drop_objects() takes away
  /// Called with a torch.UntypedStorage of a device: a copy on the host, complete when its wait() returns (torchkeep.
  /// _device_copies). By default the storage's cpu().
  nb::object device_copies = {};
};

/// Reads tensors; those that share a torch.UntypedStorage share the Storage. One per conversion.
class TensorReader {
 public:
  TensorReader(const Torch& torch, const ReaderOptions& options) : torch_(torch), options_(options) {}
  /// Of an exact torch.Tensor or torch.nn.Parameter, of any layout.
  Value read(PyObject* tensor);

 private:
  Tensor read_strided(PyObject* tensor);
  Value read_sparse(PyObject* tensor);
  Value read_nested(PyObject* tensor);
  Value read_part(const nb::object& part);
  std::shared_ptr<const Quantizer> quantizer(PyObject* tensor);
  const std::byte* look(PyObject* tensor, Tensor& leaf);
  void ask(PyObject* tensor, Tensor& leaf);
  StoragePtr storage(PyObject* tensor, const Tensor& leaf, const std::byte* first);
  StoragePtr make_storage(nb::object storage, const void* identity, PyObject* tensor, const Tensor& leaf,
                          const std::byte* first);

  const Torch& torch_;
  ReaderOptions options_;
  std::shared_ptr<Keep> keep_ = std::make_shared<Keep>();
  AddressMap<StoragePtr> storages_;        // by the address of the StorageImpl
  int refusals_ = 0;                       // of look(): each makes a C++ exception, which is dear
  PyObject* last_dtype_object_ = nullptr;  // the last dtype seen, and what it is
  DType last_dtype_ = DType::float32;
};

}  // namespace torchkeep::python
