// SPDX-License-Identifier: BSD-3-Clause
// Writes tensors and the storages they refer to.
#include "tensor_writer.h"

#include <charconv>
#include <fmt/format.h>

namespace torchkeep::pickle {
namespace {

[[noreturn]] void fail(std::string message) {
  throw Error(Code::unsupported, std::move(message));
}

}  // namespace

void TensorWriter::parameter(const Tensor& tensor) {
  out_.global(Name::rebuild_parameter);
  this->tensor(tensor, false);
  out_.boolean(tensor.requires_grad);
  out_.empty_ordered_dict();
  out_.op(Op::tuple3);
  out_.op(Op::reduce);
}

void TensorWriter::tensor(const Tensor& tensor, bool requires_grad) {
  if (tensor.is_meta()) {
    out_.global(Name::rebuild_meta_tensor);
    out_.op(Op::mark);
    out_.global(tensor.dtype);
    out_.integers(tensor.sizes);
    out_.integers(tensor.strides);
    out_.boolean(requires_grad);
    out_.op(Op::tuple);
    return out_.op(Op::reduce);
  }
  const Form form = prepare(tensor);
  out_.global(tensor.quantizer != nullptr ? Name::rebuild_qtensor
              : form.is_v3                ? Name::rebuild_tensor_v3
                                          : Name::rebuild_tensor_v2);
  arguments(tensor, requires_grad, form);
  out_.op(Op::reduce);
}

void TensorWriter::begin_with_attributes(const Tensor& tensor) {
  if (tensor.is_parameter) {
    out_.global(Name::rebuild_parameter_with_state);
    out_.op(Op::mark);
    this->tensor(tensor, false);
    out_.boolean(tensor.requires_grad);
    return out_.empty_ordered_dict();
  }
  if (tensor.quantizer != nullptr || tensor.is_meta()) fail("Python attributes of a quantized or meta tensor");
  const Form form = prepare(tensor);
  out_.global(Name::rebuild_from_type);
  out_.op(Op::mark);
  out_.global(form.is_v3 ? Name::rebuild_tensor_v3 : Name::rebuild_tensor_v2);
  out_.global(Name::tensor);
  arguments(tensor, tensor.requires_grad, form);
}

// Checks the tensor and finds or numbers its storage. The dtype must stand beside the storage when no storage class is
// there for it, when the storage was first written under another class (which then counts for tensors without a dtype),
// and when the storage is not a whole number of elements.
TensorWriter::Form TensorWriter::prepare(const Tensor& tensor) {
  try {
    tensor.validate();
  } catch (const Error& error) {
    fail(error.message());
  }
  if (tensor.shard != nullptr) {
    fail(
        "a part of a tensor that is spread over ranks: a file of its own has no place for the whole; save the state as "
        "a folder of all ranks");
  }
  const DTypeInfo& row = info(tensor.dtype);
  if ((row.kind == DTypeClass::quantized) != (tensor.quantizer != nullptr)) {
    fail(fmt::format("a {} tensor {} a quantizer", row.name, tensor.quantizer ? "with" : "without"));
  }
  const std::uint64_t nbytes = tensor.storage->nbytes();
  const auto [number, found] =
      numbers_.insert(tensor.storage->identity(), static_cast<std::uint32_t>(storages_.size()));
  if (!found) {
    const bool has_class = !row.storage_class.empty() && nbytes % row.itemsize == 0;
    storages_.push_back({tensor.storage, nbytes});
    dtypes_.push_back(has_class ? std::optional(tensor.dtype) : std::nullopt);
  } else if (storages_[number].nbytes != nbytes) {
    fail(fmt::format("its storage is {} bytes long here and {} bytes before", nbytes, storages_[number].nbytes));
  }
  const bool is_v3 = dtypes_[number] != tensor.dtype;
  if (is_v3 && tensor.quantizer != nullptr) fail("a quantized tensor whose storage has another dtype");
  return {number, is_v3, nbytes};
}

void TensorWriter::storage(const Tensor& tensor, bool is_untyped) {
  if (tensor.is_meta()) fail("a storage on the device meta");
  Form form = prepare(tensor);
  const std::uint64_t all = form.nbytes / itemsize(tensor.dtype);
  if (tensor.dim() != 1 || tensor.storage_offset != 0 || static_cast<std::uint64_t>(tensor.sizes[0]) != all)
    fail("a part of a storage by itself; save the tensor");
  if (form.is_v3 && !is_untyped) fail("a storage whose tensors have another dtype; save the tensor");
  form.is_v3 = form.is_v3 || is_untyped;
  persistent_id(tensor, form);
}

// The tuple of arguments of _rebuild_tensor_v2, _v3 or _rebuild_qtensor.
void TensorWriter::arguments(const Tensor& tensor, bool requires_grad, Form form) {
  out_.op(Op::mark);
  persistent_id(tensor, form);
  out_.integer(tensor.storage_offset);
  out_.integers(tensor.sizes);
  out_.integers(tensor.strides);
  if (tensor.quantizer != nullptr) quantizer(*tensor.quantizer);
  out_.boolean(requires_grad);
  out_.empty_ordered_dict();
  if (form.is_v3) out_.global(tensor.dtype);
  if (tensor.is_conj || tensor.is_neg) {
    if (tensor.quantizer != nullptr) fail("a quantized tensor with a conj or neg bit");
    out_.op(Op::empty_dict);
    out_.op(Op::mark);
    if (tensor.is_conj) out_.text("conj"), out_.boolean(true);
    if (tensor.is_neg) out_.text("neg"), out_.boolean(true);
    out_.op(Op::set_items);
  }
  out_.op(Op::tuple);
}

// ('storage', class, key, location, number of elements)
void TensorWriter::persistent_id(const Tensor& tensor, Form form) {
  char key[16];
  const char* end = std::to_chars(key, key + sizeof(key), first_number_ + form.number).ptr;
  out_.op(Op::mark);
  out_.storage_word();
  if (form.is_v3)
    out_.global(Name::untyped_storage);
  else
    out_.storage_class(tensor.dtype);
  out_.text_once(std::string_view(key, end));
  out_.location(tensor.storage->location());
  out_.integer(static_cast<std::int64_t>(form.is_v3 ? form.nbytes : form.nbytes / itemsize(tensor.dtype)));
  out_.op(Op::tuple);
  out_.op(Op::bin_pers_id);
}

// (scheme, scale, zero_point) or (scheme, scales, zero_points, axis)
void TensorWriter::quantizer(const Quantizer& quantizer) {
  const bool per_channel = quantizer.scales != nullptr;
  if (per_channel) out_.op(Op::mark);
  if (!out_.scheme(quantizer.scheme)) fail(fmt::format("a tensor quantized by '{}'", quantizer.scheme));
  if (!per_channel) {
    out_.real(quantizer.scale);
    out_.integer(quantizer.zero_point);
    return out_.op(Op::tuple3);
  }
  if (quantizer.zero_points == nullptr) fail("a tensor quantized per channel without zero points");
  tensor(*quantizer.scales, false);
  tensor(*quantizer.zero_points, false);
  out_.integer(quantizer.axis);
  out_.op(Op::tuple);
}

}  // namespace torchkeep::pickle
