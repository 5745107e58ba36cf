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

bool is_meta(const Tensor& tensor) {
  return tensor.storage != nullptr && tensor.storage->location() == "meta";
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
  if (is_meta(tensor)) {
    out_.global(Name::rebuild_meta_tensor);
    out_.op(Op::mark);
    out_.global(tensor.dtype);
    out_.integers(tensor.sizes);
    out_.integers(tensor.strides);
    out_.boolean(requires_grad);
    out_.op(Op::tuple);
    return out_.op(Op::reduce);
  }
  const bool is_v3 = tensor.quantizer == nullptr && needs_v3(tensor);
  out_.global(tensor.quantizer != nullptr ? Name::rebuild_qtensor
              : is_v3                     ? Name::rebuild_tensor_v3
                                          : Name::rebuild_tensor_v2);
  arguments(tensor, requires_grad, is_v3);
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
  if (tensor.quantizer != nullptr || is_meta(tensor)) fail("Python attributes of a quantized or meta tensor");
  const bool is_v3 = needs_v3(tensor);
  out_.global(Name::rebuild_from_type);
  out_.op(Op::mark);
  out_.global(is_v3 ? Name::rebuild_tensor_v3 : Name::rebuild_tensor_v2);
  out_.global(Name::tensor);
  arguments(tensor, tensor.requires_grad, is_v3);
}

// The tuple of arguments of _rebuild_tensor_v2, _v3 or _rebuild_qtensor.
void TensorWriter::arguments(const Tensor& tensor, bool requires_grad, bool is_v3) {
  try {
    tensor.validate();
  } catch (const Error& error) {
    fail(error.message());
  }
  if ((info(tensor.dtype).kind == DTypeClass::quantized) != (tensor.quantizer != nullptr)) {
    fail(fmt::format("a {} tensor {} a quantizer", to_string(tensor.dtype), tensor.quantizer ? "with" : "without"));
  }
  out_.op(Op::mark);
  storage(tensor, is_v3);
  out_.integer(tensor.storage_offset);
  out_.integers(tensor.sizes);
  out_.integers(tensor.strides);
  if (tensor.quantizer != nullptr) quantizer(*tensor.quantizer);
  out_.boolean(requires_grad);
  out_.empty_ordered_dict();
  if (is_v3) out_.global(tensor.dtype);
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

// Whether the dtype must be written beside the storage: when no storage class stands for it, when the storage was first
// written under another class (which then counts for it), and when the storage is not a whole number of elements.
bool TensorWriter::needs_v3(const Tensor& tensor) {
  if (info(tensor.dtype).storage_class.empty()) return true;
  if (tensor.storage == nullptr) return false;
  const auto identity = reinterpret_cast<std::uintptr_t>(tensor.storage->identity());
  if (const auto* number = numbers_.find(identity)) return dtypes_[*number] != tensor.dtype;
  return tensor.storage->nbytes() % itemsize(tensor.dtype) != 0;
}

// ('storage', class, key, location, number of elements)
void TensorWriter::storage(const Tensor& tensor, bool is_v3) {
  const Storage& storage = *tensor.storage;
  const auto [number, found] = numbers_.insert(reinterpret_cast<std::uintptr_t>(storage.identity()));
  if (!found) {
    *number = static_cast<std::uint32_t>(storages_.size());
    storages_.push_back(tensor.storage);
    dtypes_.push_back(is_v3 ? std::nullopt : std::optional(tensor.dtype));
  } else if (storages_[*number]->nbytes() != storage.nbytes()) {
    fail(fmt::format("its storage is {} bytes long here and {} bytes before", storage.nbytes(),
                     storages_[*number]->nbytes()));
  } else if (tensor.quantizer != nullptr && dtypes_[*number] != tensor.dtype) {
    fail("a quantized tensor that shares its storage with a tensor of another dtype");
  }
  char key[16];
  const char* end = std::to_chars(key, key + sizeof(key), *number).ptr;
  out_.op(Op::mark);
  out_.text("storage");
  if (is_v3)
    out_.global(Name::untyped_storage);
  else
    out_.storage_class(tensor.dtype);
  out_.text_once(std::string_view(key, end));
  out_.text(storage.location());
  out_.integer(static_cast<std::int64_t>(is_v3 ? storage.nbytes() : storage.nbytes() / itemsize(tensor.dtype)));
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
