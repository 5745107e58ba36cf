// SPDX-License-Identifier: BSD-3-Clause
// Fills torchkeep.TensorInfo and its like.
#include "info_maker.h"

#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include "opaque_maker.h"

namespace torchkeep::python {
namespace {

nb::object tuple_of(const std::vector<std::int64_t>& values) {
  return nb::tuple(nb::cast(values));
}

}  // namespace

nb::bytes StoredTensor::contiguous_bytes() const {
  std::string bytes;
  {
    const nb::gil_scoped_release released;
    bytes = tensor.contiguous_bytes();
  }
  return nb::bytes(bytes.data(), bytes.size());
}

InfoMaker::InfoMaker() : inspection_(nb::module_::import_("torchkeep._inspect")) {}

nb::object InfoMaker::tensor(const Value& value) {
  const Tensor& leaf = value.as_tensor();
  return inspection_.attr("TensorInfo")(
      std::string(to_string(leaf.dtype)), tuple_of(leaf.sizes), tuple_of(leaf.strides), leaf.storage_offset,
      leaf.nbytes(), from_text(leaf.storage->location()), leaf.requires_grad, leaf.is_parameter,
      reinterpret_cast<std::uintptr_t>(leaf.storage->identity()), nb::cast(StoredTensor{leaf}));
}

nb::object InfoMaker::with_attributes(const Value&, nb::object tensor, const nb::object&) {
  return tensor;
}

nb::object InfoMaker::part(const Value& value) {
  return value.is_none() ? nb::object(nb::none()) : tensor(value);
}

nb::object InfoMaker::compound(const Value& value) {
  nb::dict parts;
  if (value.is(Kind::nested_tensor)) {
    const NestedTensor& nested = value.as_nested_tensor();
    parts["buffer"] = part(nested.buffer);
    parts["sizes"] = part(nested.sizes);
    return inspection_.attr("ObjectInfo")("nested tensor", parts);
  }
  const SparseTensor& sparse = value.as_sparse_tensor();
  parts["indices"] = part(sparse.indices);
  if (!sparse.plain.is_none()) parts["plain"] = part(sparse.plain);
  parts["values"] = part(sparse.values);
  parts["shape"] = tuple_of(sparse.sizes);
  return inspection_.attr("ObjectInfo")(from_text(sparse.layout + " tensor"), parts);
}

nb::object InfoMaker::dtype(DType dtype) {
  return inspection_.attr("Named")(from_text("torch." + std::string(to_string(dtype))));
}

nb::object InfoMaker::device(const Device& device) {
  return inspection_.attr("Named")(from_text("device '" + device.name + "'"));
}

nb::object InfoMaker::opaque(const Value& value, const nb::object& made, std::span<const nb::object> parts) {
  return finish_opaque(value, made, parts);
}

}  // namespace torchkeep::python
