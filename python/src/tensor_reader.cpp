// SPDX-License-Identifier: BSD-3-Clause
// Reads the parts of a tensor: what DLPack says of it in one call, the rest by short calls of its Python attributes.
#include "tensor_reader.h"

#include <fmt/format.h>

namespace torchkeep::python {
namespace {

std::vector<std::int64_t> integers(const nb::object& tuple) {
  const auto count = static_cast<std::size_t>(PyTuple_Size(tuple.ptr()));
  std::vector<std::int64_t> values(count);
  for (std::size_t i = 0; i < count; ++i)
    values[i] = to_int64(PyTuple_GetItem(tuple.ptr(), static_cast<Py_ssize_t>(i)));
  return values;
}

/// The dtypes that DLPack has a name for since its beginning.
std::optional<DType> from_dlpack(DLDataType type) {
  if (type.lanes != 1) return std::nullopt;
  switch (type.code << 8 | type.bits) {
    case 2 << 8 | 64:
      return DType::float64;
    case 2 << 8 | 32:
      return DType::float32;
    case 2 << 8 | 16:
      return DType::float16;
    case 4 << 8 | 16:
      return DType::bfloat16;
    case 0 << 8 | 64:
      return DType::int64;
    case 0 << 8 | 32:
      return DType::int32;
    case 1 << 8 | 8:
      return DType::uint8;
    default:
      return std::nullopt;  // the rest is rare, and asked for by its name
  }
}

}  // namespace

Value TensorReader::read(PyObject* tensor) {
  static const Name kLayout("layout");
  static const Name kIsNested("is_nested");
  try {
    return detail::make_tensor(read_strided(tensor));
  } catch (const nb::python_error&) {
    // Sparse tensors have no storage and nested ones no shape. They are rare, so nobody else is asked beforehand.
    if (attribute(tensor, kLayout).ptr() != torch_.strided.ptr()) return read_sparse(tensor);
    if (is_true(attribute(tensor, kIsNested))) return read_nested(tensor);
    const nb::object zeros = torch_.helpers.attr("zeros_of")(nb::borrow(tensor));
    if (zeros.is_none()) throw;
    keep_->add(zeros);
    return detail::make_tensor(read_strided(zeros.ptr()));
  }
}

Tensor TensorReader::read_strided(PyObject* tensor) {
  static const Name kRequiresGrad("requires_grad");
  static const Name kIsConj("is_conj");
  static const Name kIsNeg("is_neg");
  Tensor leaf;
  const std::byte* const first = look(tensor, leaf);
  if (first == nullptr) ask(tensor, leaf);
  leaf.storage = storage(tensor, leaf, first);
  if (first != nullptr) {
    // What the storage says of itself must agree.
    const auto offset = static_cast<std::uint64_t>(first - leaf.storage->data());
    leaf.storage_offset = static_cast<std::int64_t>(offset / itemsize(leaf.dtype));
    if (offset >= leaf.storage->nbytes() || offset % itemsize(leaf.dtype) != 0) ask(tensor, leaf);
  }
  leaf.requires_grad = is_true(attribute(tensor, kRequiresGrad));
  leaf.is_parameter = Py_TYPE(tensor) == torch_.parameter;
  leaf.is_conj = info(leaf.dtype).kind == DTypeClass::complex && is_true(call_method(tensor, kIsConj));
  leaf.is_neg = is_true(call_method(tensor, kIsNeg));
  if (info(leaf.dtype).kind == DTypeClass::quantized) leaf.quantizer = quantizer(tensor);
  return leaf;
}

/// Dtype, shape and strides of a tensor in the CPU's memory, in one call where PyTorch offers that. The address of the
/// first element; null: ask() instead.
const std::byte* TensorReader::look(PyObject* tensor, Tensor& leaf) {
  constexpr int kMostRefusals = 8;
  if (torch_.exchange == nullptr || refusals_ > kMostRefusals) return nullptr;
  DLTensor seen;
  if (torch_.exchange->look(tensor, &seen) != 0) {
    PyErr_Clear();
    ++refusals_;
    return nullptr;
  }
  const auto dtype = from_dlpack(seen.dtype);
  if (!dtype || seen.device.device_type != 1 || seen.data == nullptr || (seen.ndim > 0 && seen.strides == nullptr))
    return nullptr;
  leaf.dtype = *dtype;
  leaf.sizes.assign(seen.shape, seen.shape + seen.ndim);
  leaf.strides.assign(seen.strides, seen.strides + seen.ndim);
  return static_cast<const std::byte*>(seen.data) + seen.byte_offset;
}

/// The same, and the offset in the storage, by the tensor's Python attributes.
void TensorReader::ask(PyObject* tensor, Tensor& leaf) {
  static const Name kDtype("dtype");
  static const Name kShape("shape");
  static const Name kStride("stride");
  static const Name kOffset("storage_offset");
  const nb::object dtype = attribute(tensor, kDtype);
  if (dtype.ptr() != last_dtype_object_) {
    const auto known = torch_.dtype_of(dtype.ptr());
    if (!known) throw Error(Code::unsupported, fmt::format("a tensor of {}", nb::repr(dtype).c_str()));
    last_dtype_ = *known;
    last_dtype_object_ = dtype.ptr();
  }
  leaf.dtype = last_dtype_;
  leaf.sizes = integers(attribute(tensor, kShape));
  leaf.strides = integers(call_method(tensor, kStride));
  leaf.storage_offset = to_int64(call_method(tensor, kOffset).ptr());
}

StoragePtr TensorReader::storage(PyObject* tensor, const Tensor& leaf, const std::byte* first) {
  static const Name kStorage("untyped_storage");
  static const Name kIdentity("_cdata");
  nb::object storage = call_method(tensor, kStorage);
  const void* const identity = PyLong_AsVoidPtr(attribute(storage.ptr(), kIdentity).ptr());
  if (identity == nullptr && PyErr_Occurred() != nullptr) throw nb::python_error();
  StoragePtr& known = storages_[identity];
  if (known == nullptr) known = make_storage(std::move(storage), identity, tensor, leaf, first);
  return known;
}

/// `first`, unless it is null, is the address of the first element of `leaf`, which then lies in the CPU's memory.
StoragePtr TensorReader::make_storage(nb::object storage, const void* identity, PyObject* tensor, const Tensor& leaf,
                                      const std::byte* first) {
  static const Name kIsCpu("is_cpu");
  static const Name kIsMeta("is_meta");
  static const Name kData("data_ptr");
  static const Name kBytes("nbytes");
  static const Name kCpu("cpu");
  std::shared_ptr<const std::string> location;
  const bool on_cpu = first != nullptr || is_true(attribute(tensor, kIsCpu));
  if (!on_cpu) {
    keep_->add(storage);  // its address stands for it
    if (options_.writable || is_true(attribute(tensor, kIsMeta))) return std::make_shared<MetaStorage>();
    location = std::make_shared<const std::string>(to_text(torch_.helpers.attr("location_of")(storage).ptr()));
    storage = options_.device_copies.is_valid() ? call(options_.device_copies.ptr(), storage.ptr())
                                                : call_method(storage.ptr(), kCpu);
  }
  const auto nbytes = static_cast<std::uint64_t>(to_int64(call_method(storage.ptr(), kBytes).ptr()));
  const std::byte* data = first;
  if (first == nullptr || nbytes != leaf.nbytes() || !leaf.is_contiguous()) {
    const nb::object address = call_method(storage.ptr(), kData);
    data = static_cast<const std::byte*>(PyLong_AsVoidPtr(address.ptr()));
  }
  if (data == nullptr && nbytes > 0) throw Error(Code::unsupported, "a tensor whose memory cannot be read");
  keep_->add(std::move(storage));
  TorchMemory memory{keep_, identity, data, nbytes, location, options_.writable && on_cpu, !on_cpu};
  const Watches::Watch* const watch =
      options_.watches != nullptr && on_cpu ? options_.watches->find(identity) : nullptr;
  if (watch == nullptr) return std::make_shared<TorchStorage>(std::move(memory));
  keep_->add(nb::borrow(watch->tensor));
  return std::make_shared<CountedStorage>(std::move(memory), watch->tensor, watch->trained);
}

std::shared_ptr<const Quantizer> TensorReader::quantizer(PyObject* tensor) {
  const auto parts = nb::cast<nb::tuple>(nb::object(torch_.helpers.attr("quantizer_of")(nb::borrow(tensor))));
  Quantizer quantizer;
  quantizer.scheme = to_text(nb::object(parts[0]).ptr());
  if (parts.size() == 3) {
    quantizer.scale = nb::cast<double>(parts[1]);
    quantizer.zero_point = nb::cast<std::int64_t>(parts[2]);
  } else {
    const auto part = [&](std::size_t i) { return std::make_shared<const Tensor>(read_part(parts[i]).as_tensor()); };
    quantizer.scales = part(1);
    quantizer.zero_points = part(2);
    quantizer.axis = nb::cast<std::int64_t>(parts[3]);
  }
  return std::make_shared<const Quantizer>(std::move(quantizer));
}

Value TensorReader::read_part(const nb::object& part) {
  if (part.is_none()) return {};
  Value value = detail::make_tensor(read_strided(part.ptr()));
  keep_->add(part);
  return value;
}

Value TensorReader::read_sparse(PyObject* tensor) {
  const auto parts = nb::cast<nb::tuple>(nb::object(torch_.helpers.attr("sparse_parts")(nb::borrow(tensor))));
  SparseTensor sparse;
  sparse.layout = to_text(nb::object(parts[0]).ptr());
  sparse.indices = read_part(parts[1]);
  sparse.plain = read_part(parts[2]);
  sparse.values = read_part(parts[3]);
  sparse.sizes = integers(parts[4]);
  if (!nb::object(parts[5]).is_none()) sparse.is_coalesced = nb::cast<bool>(parts[5]);
  return detail::make_sparse_tensor(std::move(sparse));
}

Value TensorReader::read_nested(PyObject* tensor) {
  const auto parts = nb::cast<nb::tuple>(nb::object(torch_.helpers.attr("nested_parts")(nb::borrow(tensor))));
  return detail::make_nested_tensor(
      {read_part(parts[0]), read_part(parts[1]), read_part(parts[2]), read_part(parts[3])});
}

}  // namespace torchkeep::python
