// SPDX-License-Identifier: BSD-3-Clause
// Looks PyTorch's names up.
#include "torch_bridge.h"

#include <fmt/format.h>

#include <torchkeep/base/error.h>

namespace torchkeep::python {
namespace {

PyTypeObject* type_at(const nb::object& module, const char* name) {
  // The reference is kept for ever, like the module itself.
  return reinterpret_cast<PyTypeObject*>(nb::object(module.attr(name)).release().ptr());
}

nb::object dlpack_importer(const nb::object& torch) {
  const nb::object internals = torch.attr("_C");
  if (nb::hasattr(internals, "_from_dlpack")) return internals.attr("_from_dlpack");
  return nb::module_::import_("torch.utils.dlpack").attr("from_dlpack");
}

const DLPackExchangeApi* exchange_api(const nb::object& tensor_class) {
  constexpr const char* kAttribute = "__dlpack_c_exchange_api__";
  constexpr const char* kName = "dlpack_exchange_api";
  if (!nb::hasattr(tensor_class, kAttribute)) return nullptr;
  const nb::object capsule = tensor_class.attr(kAttribute);
  if (!PyCapsule_IsValid(capsule.ptr(), kName)) return nullptr;
  const auto* api = static_cast<const DLPackExchangeApi*>(PyCapsule_GetPointer(capsule.ptr(), kName));
  return api->major == 1 && api->look != nullptr ? api : nullptr;
}

}  // namespace

const void* storage_address(PyObject* tensor) {
  static const Name kStorage("untyped_storage");
  static const Name kIdentity("_cdata");
  const nb::object storage = nb::steal(PyObject_CallMethodObjArgs(tensor, kStorage.ptr(), nullptr));
  if (!storage.is_valid()) {
    PyErr_Clear();
    return nullptr;
  }
  return PyLong_AsVoidPtr(attribute(storage.ptr(), kIdentity).ptr());
}

Torch::Torch() {
  const nb::object torch = nb::module_::import_("torch");
  tensor = type_at(torch, "Tensor");
  parameter = type_at(torch.attr("nn"), "Parameter");
  size = type_at(torch, "Size");
  dtype_type = type_at(torch, "dtype");
  device = type_at(torch, "device");
  layout = type_at(torch, "layout");
  typed_storage = type_at(torch, "TypedStorage");
  untyped_storage = type_at(torch, "UntypedStorage");
  strided = torch.attr("strided");
  exchange = exchange_api(torch.attr("Tensor"));
  from_dlpack = dlpack_importer(torch);
  empty = torch.attr("empty");
  make_subclass = torch.attr("Tensor").attr("_make_subclass");
  helpers = nb::module_::import_("torchkeep._tensors");
  for (const DTypeInfo& row : all_dtypes()) {
    const std::string name(row.name);
    if (!nb::hasattr(torch, name.c_str())) continue;  // an older PyTorch
    nb::object& object = by_dtype_[static_cast<std::size_t>(row.dtype)];
    object = torch.attr(name.c_str());
    dtypes_.emplace(object.ptr(), row.dtype);
  }
}

const Torch& Torch::get() {
  static const Torch* const torch = new Torch;  // never destroyed: see Name
  return *torch;
}

const Torch* Torch::if_imported() {
  static const Torch* torch = nullptr;
  if (torch == nullptr) {
    static const Name kName("torch");
    PyObject* const modules = PyImport_GetModuleDict();
    PyObject* const module = PyDict_GetItemWithError(modules, kName.ptr());
    if (module == nullptr || module == Py_None) return nullptr;
    torch = &get();
  }
  return torch;
}

std::optional<DType> Torch::dtype_of(PyObject* dtype) const {
  const auto found = dtypes_.find(dtype);
  return found == dtypes_.end() ? std::nullopt : std::optional(found->second);
}

const nb::object& Torch::dtype(DType dtype) const {
  const nb::object& object = by_dtype_[static_cast<std::size_t>(dtype)];
  if (!object.is_valid()) {
    throw Error(Code::unsupported,
                fmt::format("this PyTorch has no torch.{}; a newer one can load this", to_string(dtype)));
  }
  return object;
}

}  // namespace torchkeep::python
