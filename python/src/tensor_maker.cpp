// SPDX-License-Identifier: BSD-3-Clause
// A tensor that covers its storage, which nearly all do, is handed to PyTorch in one call, through DLPack; the others
// are views of a torch.UntypedStorage, made as torch.load makes them.
#include "tensor_maker.h"

#include <fmt/format.h>
#include <memory>
#include <span>

#include "dlpack.h"
#include "opaque_maker.h"

namespace torchkeep::python {
namespace {

/// What a tensor made through DLPack holds on to. (Of shape and strides PyTorch makes a copy at once.)
template <class Managed>
struct Lent {
  Managed managed{};
  StoragePtr storage;

  Lent(StoragePtr memory, DLDataType type, std::span<const std::int64_t> sizes, std::span<const std::int64_t> strides)
      : storage(std::move(memory)) {
    DLTensor& tensor = managed.dl_tensor;
    tensor.data = const_cast<std::byte*>(storage->data());
    tensor.device = {1, 0};
    tensor.ndim = static_cast<std::int32_t>(sizes.size());
    tensor.dtype = type;
    tensor.shape = const_cast<std::int64_t*>(sizes.data());
    tensor.strides = const_cast<std::int64_t*>(strides.data());
    managed.manager_ctx = this;
    managed.deleter = [](Managed* self) { delete static_cast<Lent*>(self->manager_ctx); };
  }
};

/// In a PyTorch without the exchange interface: through a capsule.
nb::object lend_in_capsule(const Torch& torch, std::unique_ptr<Lent<DLManagedTensor>> lent) {
  const auto forget = [](PyObject* capsule) {
    if (auto* unused = PyCapsule_IsValid(capsule, "dltensor")
                           ? static_cast<DLManagedTensor*>(PyCapsule_GetPointer(capsule, "dltensor"))
                           : nullptr) {
      unused->deleter(unused);
    }
  };
  const nb::object holder = own(PyCapsule_New(&lent->managed, "dltensor", forget));
  static_cast<void>(lent.release());  // the capsule's
  return call(torch.from_dlpack.ptr(), holder.ptr());
}

nb::object lend(const Torch& torch, StoragePtr storage, DLDataType type, std::span<const std::int64_t> sizes,
                std::span<const std::int64_t> strides) {
  if (torch.exchange == nullptr || torch.exchange->give == nullptr) {
    return lend_in_capsule(torch, std::make_unique<Lent<DLManagedTensor>>(std::move(storage), type, sizes, strides));
  }
  auto lent = std::make_unique<Lent<DLManagedTensorVersioned>>(std::move(storage), type, sizes, strides);
  lent->managed.major = 1;
  void* tensor = nullptr;
  if (torch.exchange->give(&lent->managed, &tensor) != 0) throw nb::python_error();
  static_cast<void>(lent.release());  // the tensor's
  return nb::steal(static_cast<PyObject*>(tensor));
}

/// DLPack's name for a dtype, where every version of PyTorch knows it.
std::optional<DLDataType> dlpack_type(DType dtype) {
  const auto bits = static_cast<std::uint8_t>(8 * itemsize(dtype));
  switch (dtype) {
    case DType::float64:
    case DType::float32:
    case DType::float16:
      return DLDataType{2, bits, 1};
    case DType::bfloat16:
      return DLDataType{4, bits, 1};
    case DType::int64:
    case DType::int32:
    case DType::int16:
    case DType::int8:
      return DLDataType{0, bits, 1};
    case DType::uint8:
      return DLDataType{1, bits, 1};
    case DType::boolean:
      return DLDataType{6, bits, 1};
    case DType::complex128:
    case DType::complex64:
      return DLDataType{5, bits, 1};
    default:
      return std::nullopt;
  }
}

/// Whether the elements fill the storage from its first byte to its last, each once.
bool covers(const Tensor& leaf) {
  return leaf.extent().size > 0 && leaf.nbytes() == leaf.storage->nbytes() && leaf.is_dense();
}

nb::object tuple_of(const std::vector<std::int64_t>& values) {
  nb::object tuple = own(PyTuple_New(static_cast<Py_ssize_t>(values.size())));
  for (std::size_t i = 0; i < values.size(); ++i)
    check(
        PyTuple_SetItem(tuple.ptr(), static_cast<Py_ssize_t>(i), own(PyLong_FromLongLong(values[i])).release().ptr()));
  return tuple;
}

}  // namespace

TensorMaker::TensorMaker(nb::handle map_location, const Placed* placed) : placed_(placed) {
  if (map_location.is_none()) return;
  const bool is_place = PyUnicode_Check(map_location.ptr()) || Py_TYPE(map_location.ptr()) == torch().device;
  const nb::str place(map_location);
  stays_on_cpu_ = is_place && PyUnicode_CompareWithASCIIString(place.ptr(), "cpu") == 0;
  goes_to_meta_ = is_place && PyUnicode_CompareWithASCIIString(place.ptr(), "meta") == 0;
  restores_by_users_function_ = PyCallable_Check(map_location.ptr()) != 0;
  if (!stays_on_cpu_) restorer_ = torch().helpers.attr("restorer")(map_location);
}

/// The storage, in memory: one of a mapped file may be deflated there. Throws what reading it throws.
StoragePtr TensorMaker::in_memory(const StoragePtr& storage) const {
  if (storage->data() != nullptr) return storage;
  if (placed_ != nullptr) {
    const auto found = placed_->storages.find(storage->identity());
    if (found != placed_->storages.end()) return found->second;
  }
  return materialize(*storage);
}

nb::object TensorMaker::tensor(const Value& value) {
  if (placed_ != nullptr) {
    const auto live = placed_->tensors.find(value.id());
    if (live != placed_->tensors.end()) return nb::borrow(live->second);
  }
  const Tensor& leaf = value.as_tensor();
  nb::object tensor = plain(leaf);
  if (leaf.is_conj || leaf.is_neg) tensor = torch().helpers.attr("finish")(tensor, leaf.is_conj, leaf.is_neg);
  if (leaf.is_parameter) {
    PyObject* const arguments[] = {reinterpret_cast<PyObject*>(torch().parameter), tensor.ptr(),
                                   leaf.requires_grad ? Py_True : Py_False};
    return own(PyObject_Vectorcall(torch().make_subclass.ptr(), arguments, 3, nullptr));
  }
  static const Name kRequiresGrad("requires_grad");
  if (leaf.requires_grad) check(PyObject_SetAttr(tensor.ptr(), kRequiresGrad.ptr(), Py_True));
  return tensor;
}

nb::object TensorMaker::plain(const Tensor& leaf) {
  if (leaf.is_meta()) return meta(leaf);
  const bool on_cpu = stays_on_cpu_ || (!restorer_.is_valid() && leaf.storage->location() == "cpu");
  if (!on_cpu || leaf.quantizer != nullptr || !covers(leaf)) return view(leaf);
  nb::object& known = storages_[leaf.storage->identity()];
  const auto type = dlpack_type(leaf.dtype);
  if (known.is_valid() || !type) return view(leaf);
  nb::object tensor = lend(torch(), in_memory(leaf.storage), *type, leaf.sizes, leaf.strides);
  known = tensor;
  return tensor;
}

nb::object TensorMaker::view(const Tensor& leaf) {
  const nb::object storage = untyped(leaf.storage);
  const nb::object sizes = tuple_of(leaf.sizes);
  const nb::object strides = tuple_of(leaf.strides);
  if (leaf.quantizer == nullptr)
    return torch().helpers.attr("strided")(storage, dtype(leaf.dtype), leaf.storage_offset, sizes, strides);
  const Quantizer& quantizer = *leaf.quantizer;
  const nb::object scheme = from_text(quantizer.scheme);
  const nb::object parts =
      quantizer.scales == nullptr
          ? nb::object(nb::make_tuple(scheme, quantizer.scale, quantizer.zero_point))
          : nb::object(nb::make_tuple(scheme, plain(*quantizer.scales), plain(*quantizer.zero_points), quantizer.axis));
  return torch().helpers.attr("quantized")(storage, dtype(leaf.dtype), leaf.storage_offset, sizes, strides, parts);
}

/// The torch.UntypedStorage that stands for a storage of the file.
nb::object TensorMaker::untyped(const StoragePtr& storage) {
  static const Name kStorage("untyped_storage");
  nb::object& known = storages_[storage->identity()];
  if (known.is_valid() && Py_TYPE(known.ptr()) == torch().untyped_storage) return known;
  if (known.is_valid()) return known = call_method(known.ptr(), kStorage);
  if (goes_to_meta_) {  // nobody will ask for the bytes
    const nb::handle type(reinterpret_cast<PyObject*>(torch().untyped_storage));
    return known = type(storage->nbytes(), nb::arg("device") = "meta");
  }
  if (storage->nbytes() == 0) {
    known = own(PyObject_CallFunction(reinterpret_cast<PyObject*>(torch().untyped_storage), "i", 0));
  } else {
    static constexpr std::int64_t kOne = 1;
    const auto nbytes = static_cast<std::int64_t>(storage->nbytes());
    known = call_method(lend(torch(), in_memory(storage), {1, 8, 1}, {&nbytes, 1}, {&kOne, 1}).ptr(), kStorage);
  }
  const bool on_cpu = stays_on_cpu_ || (!restorer_.is_valid() && storage->location() == "cpu");
  if (on_cpu) return known;
  return known = restore(known, storage->location());
}

nb::object TensorMaker::restore(const nb::object& storage, const std::string& location) {
  const nb::object restorer = restorer_.is_valid() ? restorer_ : torch().helpers.attr("restorer")(nb::none());
  try {
    return restorer(storage, from_text(location));
  } catch (const nb::python_error&) {
    users_error_ = restores_by_users_function_;
    throw;
  }
}

nb::object TensorMaker::with_attributes(const Value&, nb::object tensor, const nb::object& attributes) {
  Py_ssize_t position = 0;
  PyObject* key = nullptr;
  PyObject* attribute = nullptr;
  while (PyDict_Next(attributes.ptr(), &position, &key, &attribute))
    check(PyObject_SetAttr(tensor.ptr(), key, attribute));
  return tensor;
}

nb::object TensorMaker::meta(const Tensor& leaf) {
  return torch().helpers.attr("meta")(dtype(leaf.dtype), tuple_of(leaf.sizes), tuple_of(leaf.strides));
}

StructureMaker::StructureMaker() : TensorMaker(nb::str("meta"), nullptr) {}

nb::object StructureMaker::tensor(const Value& value) {
  const Tensor& leaf = value.as_tensor();
  // A quantized tensor has no likeness on the device meta: one of as many bytes each stands for it.
  if (leaf.quantizer != nullptr) {
    Tensor bytes = leaf;
    bytes.dtype = itemsize(leaf.dtype) == 4 ? DType::int32 : DType::int8;
    return meta(bytes);
  }
  if (!value.attributes().is_none()) return TensorMaker::tensor(value);
  std::string looks{static_cast<char>(leaf.dtype)};
  for (const auto* numbers : {&leaf.sizes, &leaf.strides})
    looks.append(reinterpret_cast<const char*>(numbers->data()), numbers->size() * sizeof(std::int64_t));
  nb::object& made = made_[std::move(looks)];
  if (!made.is_valid()) made = meta(leaf);
  return made;
}

nb::object TensorMaker::part(const Value& value) {
  return value.is_none() ? nb::object(nb::none()) : tensor(value);
}

nb::object TensorMaker::compound(const Value& value) {
  if (value.is(Kind::nested_tensor)) {
    const NestedTensor& nested = value.as_nested_tensor();
    return torch().helpers.attr("nested")(part(nested.buffer), part(nested.sizes), part(nested.strides),
                                          part(nested.offsets));
  }
  const SparseTensor& sparse = value.as_sparse_tensor();
  const nb::object coalesced =
      sparse.is_coalesced ? nb::object(nb::bool_(*sparse.is_coalesced)) : nb::object(nb::none());
  return torch().helpers.attr("sparse")(from_text(sparse.layout), part(sparse.indices), part(sparse.plain),
                                        part(sparse.values), tuple_of(sparse.sizes), coalesced);
}

nb::object TensorMaker::device(const Device& device) {
  return call(reinterpret_cast<PyObject*>(torch().device), from_text(device.name).ptr());
}

nb::object TensorMaker::size(const nb::object& tuple) {
  return call(reinterpret_cast<PyObject*>(torch().size), tuple.ptr());
}

nb::object TensorMaker::opaque(const Value& value, const nb::object& made, std::span<const nb::object> parts) {
  const Opaque& object = value.as_opaque();
  if (object.form == Opaque::Form::persistent && object.args.is(Kind::tensor)) {
    const Tensor& all = object.args.as_tensor();
    return torch().helpers.attr("typed_storage")(untyped(all.storage), dtype(all.dtype), all.storage_offset,
                                                 all.sizes.at(0));
  }
  if (object.module == "torch" || object.module == "torch.serialization") {
    const nb::object special = torch().helpers.attr("special")(from_text(object.module + "." + object.name), parts[0]);
    if (!special.is_none()) return special;
  }
  return finish_opaque(value, made, parts);
}

}  // namespace torchkeep::python
