// SPDX-License-Identifier: BSD-3-Clause
// Every global a pickle may name and torchkeep understands. Nothing here is called: each is a shape of data.
#pragma once

#include <optional>
#include <string_view>

#include <torchkeep/state/dtype.h>

namespace torchkeep::pickle {

/// What a known global stands for.
enum class Role : std::uint8_t {
  // Python
  ordered_dict,
  counter,
  set,
  frozenset,
  complex,
  bytes,
  bytearray,
  codecs_encode,
  // PyTorch: plain values
  size,
  device,
  dtype,
  layout,
  scheme,
  storage_class,
  tensor_class,
  parameter_class,
  // PyTorch: functions that rebuild a tensor from its parts
  tensor,
  tensor_v2,
  tensor_v3,
  parameter,
  parameter_with_state,
  quantized,
  sparse,
  nested,
  meta,
  from_type,
  unknown,
};

/// A row of the list.
struct Known {
  std::string_view module;
  std::string_view name;
  Role role;
};

/// The list, sorted by module and name. Added to it by rule: `torch.<dtype>`, and `torch.<X>Storage` for every dtype
/// with such a class, also in the modules torch.cuda and torch.storage.
inline constexpr Known kAllowed[] = {
    {"_codecs", "encode", Role::codecs_encode},
    {"builtins", "bytearray", Role::bytearray},
    {"builtins", "bytes", Role::bytes},
    {"builtins", "complex", Role::complex},
    {"builtins", "frozenset", Role::frozenset},
    {"builtins", "set", Role::set},
    {"collections", "Counter", Role::counter},
    {"collections", "OrderedDict", Role::ordered_dict},
    {"torch", "Size", Role::size},
    {"torch", "Tensor", Role::tensor_class},
    {"torch", "device", Role::device},
    {"torch", "per_channel_affine", Role::scheme},
    {"torch", "per_channel_affine_float_qparams", Role::scheme},
    {"torch", "per_channel_symmetric", Role::scheme},
    {"torch", "per_tensor_affine", Role::scheme},
    {"torch", "per_tensor_symmetric", Role::scheme},
    {"torch._tensor", "_rebuild_from_type_v2", Role::from_type},
    {"torch._utils", "_rebuild_meta_tensor_no_storage", Role::meta},
    {"torch._utils", "_rebuild_nested_tensor", Role::nested},
    {"torch._utils", "_rebuild_parameter", Role::parameter},
    {"torch._utils", "_rebuild_parameter_with_state", Role::parameter_with_state},
    {"torch._utils", "_rebuild_qtensor", Role::quantized},
    {"torch._utils", "_rebuild_sparse_tensor", Role::sparse},
    {"torch._utils", "_rebuild_tensor", Role::tensor},
    {"torch._utils", "_rebuild_tensor_v2", Role::tensor_v2},
    {"torch._utils", "_rebuild_tensor_v3", Role::tensor_v3},
    {"torch.nn.parameter", "Parameter", Role::parameter_class},
    {"torch.serialization", "_get_layout", Role::layout},
};

/// A global of a pickle.
struct Global {
  std::string_view module;
  std::string_view name;
  Role role = Role::unknown;
  std::optional<DType> dtype;  ///< of a dtype or storage class; none for UntypedStorage
};

/// Looks a global up. Modules renamed in Python 3 are known by both names.
Global look_up(std::string_view module, std::string_view name) noexcept;

}  // namespace torchkeep::pickle
