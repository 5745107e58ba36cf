// SPDX-License-Identifier: BSD-3-Clause
// at::Tensor into and out of a Value.
#pragma once

#include <map>
#include <string>
#include <vector>

#include <ATen/core/Tensor.h>

#include <torchkeep/state/value.h>

namespace torchkeep {

/// The element type of a LibTorch tensor; throws Error (unsupported) for one that no tensor can have.
DType to_dtype(c10::ScalarType type);
/// LibTorch's name for an element type.
c10::ScalarType to_scalar_type(DType dtype);

/// The tensor leaf of a LibTorch tensor. It looks at the tensor's memory (strides, offset, sharing, requires_grad, conj
/// and neg bits kept) and keeps that memory alive, as Python's state_dict() does: a later change of the tensor shows in
/// the leaf. Value::clone() takes a snapshot. A tensor on another device is copied to the CPU when its bytes are read;
/// its place ("cuda:0") is kept. Throws Error (unsupported) for what has no strided storage: sparse, quantized, nested
/// and meta tensors, and (invalid_argument) for an undefined one.
Tensor to_leaf(const at::Tensor& tensor);

/// A new LibTorch tensor on the CPU with the leaf's elements, strides and flags, in memory of its own. Only the bytes
/// between its first and last element are copied; its storage offset is 0.
at::Tensor to_torch(const Tensor& leaf);

/// {"loss", loss} and value.to<torch::Tensor>(): to_leaf and to_torch. An undefined tensor becomes None; None does not
/// become a tensor (ask for std::optional<torch::Tensor> where it may be None).
template <>
struct Convert<at::Tensor> {
  static Value to_value(const at::Tensor& tensor);
  static at::Tensor from_value(const Value& value);
};

/// A list of tensors. Converted back by one call they share storage where they did in the Value; each storage is then
/// copied once, whole. (Tensors converted one by one do not share.)
template <>
struct Convert<std::vector<at::Tensor>> {
  static Value to_value(const std::vector<at::Tensor>& tensors);
  static std::vector<at::Tensor> from_value(const Value& value);
};

/// A dict of tensors with string keys, for example a module's state dict; sharing as for the list.
template <>
struct Convert<std::map<std::string, at::Tensor>> {
  static Value to_value(const std::map<std::string, at::Tensor>& tensors);
  static std::map<std::string, at::Tensor> from_value(const Value& value);
};

}  // namespace torchkeep
