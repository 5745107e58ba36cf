// SPDX-License-Identifier: BSD-3-Clause
// Memory of PyTorch's.
#include "storages.h"

#include <cstring>
#include <fmt/format.h>

#include "torch_bridge.h"

namespace torchkeep::python {

Keep::~Keep() {
  if (!is_interpreter_alive()) return;
  const nb::gil_scoped_acquire gil;
  for (PyObject* object : objects_) Py_DECREF(object);
}

void read_memory(const TorchMemory& memory, std::uint64_t offset, MutableBytes out) {
  if (offset > memory.nbytes || out.size() > memory.nbytes - offset) {
    throw Error(Code::invalid_argument,
                fmt::format("bytes [{}, +{}) lie outside a storage of {} bytes", offset, out.size(), memory.nbytes));
  }
  if (!out.empty()) std::memcpy(out.data(), memory.data + offset, out.size());
}

namespace {

/// The counter; 0 for an inference tensor, which has none.
std::uint64_t version_of(PyObject* tensor) {
  static const Name kVersion("_version");
  const nb::object version = nb::steal(PyObject_GetAttr(tensor, kVersion.ptr()));
  if (version.is_valid()) return static_cast<std::uint64_t>(to_int64(version.ptr()));
  PyErr_Clear();
  return 0;
}

}  // namespace

WatchedStorage::Mark CountedStorage::mark() const {
  const nb::gil_scoped_acquire gil;
  const nb::error_scope undisturbed;
  DLTensor seen;
  Mark mark{.version = version_of(tensor_)};
  const DLPackExchangeApi* const exchange = Torch::get().exchange;
  if (exchange != nullptr && exchange->look(tensor_, &seen) == 0) {
    mark.data = static_cast<const std::byte*>(seen.data) + seen.byte_offset;
    mark.nbytes = seen.dtype.bits / 8;
    for (std::int32_t i = 0; i < seen.ndim; ++i) mark.nbytes *= static_cast<std::uint64_t>(seen.shape[i]);
    return mark;
  }
  PyErr_Clear();
  static const Name kStorage("untyped_storage");
  static const Name kData("data_ptr");
  static const Name kBytes("nbytes");
  const nb::object storage = call_method(tensor_, kStorage);
  mark.data = PyLong_AsVoidPtr(call_method(storage.ptr(), kData).ptr());
  mark.nbytes = static_cast<std::uint64_t>(to_int64(call_method(storage.ptr(), kBytes).ptr()));
  return mark;
}

std::shared_ptr<void> CountedStorage::marking() const {
  return std::make_shared<nb::gil_scoped_acquire>();
}

void Watches::add(nb::handle tensors, bool all_trained) {
  static const Name kRequiresGrad("requires_grad");
  for (nb::handle tensor : tensors) {
    const void* const identity = storage_address(tensor.ptr());
    if (identity == nullptr) continue;
    const bool trained = all_trained || is_true(attribute(tensor.ptr(), kRequiresGrad));
    watches_[identity] = {tensor.ptr(), trained};
    keep_.add(nb::borrow(tensor));
  }
}

void Watches::remove(nb::handle tensors) {
  for (nb::handle tensor : tensors) watches_.erase(storage_address(tensor.ptr()));
}

const Watches::Watch* Watches::find(const void* identity) const {
  const auto found = watches_.find(identity);
  return found == watches_.end() ? nullptr : &found->second;
}

}  // namespace torchkeep::python
