// SPDX-License-Identifier: BSD-3-Clause
// Every global a pickle may name and torchkeep understands. Nothing here is called: each is a shape of data.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include <torchkeep/state/dtype.h>

namespace torchkeep::pickle {

/// What a known global stands for.
enum class Role : std::uint8_t {
  // Python
  ordered_dict,
  default_dict,
  counter,
  set,
  frozenset,
  complex,
  bytes,
  bytearray,
  codecs_encode,
  reconstructor,  // copyreg: an object of protocols 0 and 1
  inert,          // plain data without a kind of its own: it stays an Opaque
  // NumPy
  numpy_reconstruct,
  numpy_scalar,
  numpy_from_buffer,
  numpy_dtype,
  // PyTorch: plain values
  size,
  device,
  dtype,
  layout,
  scheme,
  storage_class,
  tensor_class,
  parameter_class,
  script_class,     // __torch__.*: a module of a TorchScript or LibTorch archive
  script_identity,  // torch.jit._pickle: its first argument, with a note about types
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
  device_tensor_from_numpy,
  device_tensor_from_cpu,
  load_from_bytes,  // a storage in a stream of its own
  from_type,
  unknown,
};

/// A row of the list.
struct Known {
  std::string_view module;
  std::string_view name;
  Role role;
};

/// The list, sorted by module and name. Added to it by rule: `torch.<dtype>`; `torch.<X>Storage` and `torch.<X>Tensor`
/// for every dtype, also in the modules torch.cuda and torch.storage; and the classes of TorchScript, `__torch__.*`.
inline constexpr Known kAllowed[] = {
    {"_codecs", "encode", Role::codecs_encode},
    {"builtins", "bool", Role::inert},
    {"builtins", "bytearray", Role::bytearray},
    {"builtins", "bytes", Role::bytes},
    {"builtins", "complex", Role::complex},
    {"builtins", "dict", Role::inert},
    {"builtins", "float", Role::inert},
    {"builtins", "frozenset", Role::frozenset},
    {"builtins", "int", Role::inert},
    {"builtins", "list", Role::inert},
    {"builtins", "object", Role::inert},
    {"builtins", "range", Role::inert},
    {"builtins", "set", Role::set},
    {"builtins", "slice", Role::inert},
    {"builtins", "str", Role::inert},
    {"builtins", "tuple", Role::inert},
    {"builtins", "xrange", Role::inert},
    {"collections", "Counter", Role::counter},
    {"collections", "OrderedDict", Role::ordered_dict},
    {"collections", "defaultdict", Role::default_dict},
    {"copyreg", "_reconstructor", Role::reconstructor},
    {"numpy", "dtype", Role::numpy_dtype},
    {"numpy", "ndarray", Role::inert},
    {"numpy._core.multiarray", "_reconstruct", Role::numpy_reconstruct},
    {"numpy._core.multiarray", "scalar", Role::numpy_scalar},
    {"numpy._core.numeric", "_frombuffer", Role::numpy_from_buffer},
    {"torch", "Size", Role::size},
    {"torch", "Tensor", Role::tensor_class},
    {"torch", "device", Role::device},
    {"torch", "per_channel_affine", Role::scheme},
    {"torch", "per_channel_affine_float_qparams", Role::scheme},
    {"torch", "per_channel_symmetric", Role::scheme},
    {"torch", "per_tensor_affine", Role::scheme},
    {"torch", "per_tensor_symmetric", Role::scheme},
    {"torch._tensor", "_rebuild_from_type", Role::from_type},
    {"torch._tensor", "_rebuild_from_type_v2", Role::from_type},
    {"torch._utils", "_rebuild_device_tensor_from_cpu_tensor", Role::device_tensor_from_cpu},
    {"torch._utils", "_rebuild_device_tensor_from_numpy", Role::device_tensor_from_numpy},
    {"torch._utils", "_rebuild_meta_tensor_no_storage", Role::meta},
    {"torch._utils", "_rebuild_nested_tensor", Role::nested},
    {"torch._utils", "_rebuild_parameter", Role::parameter},
    {"torch._utils", "_rebuild_parameter_with_state", Role::parameter_with_state},
    {"torch._utils", "_rebuild_qtensor", Role::quantized},
    {"torch._utils", "_rebuild_sparse_csr_tensor", Role::sparse},
    {"torch._utils", "_rebuild_sparse_tensor", Role::sparse},
    {"torch._utils", "_rebuild_tensor", Role::tensor},
    {"torch._utils", "_rebuild_tensor_v2", Role::tensor_v2},
    {"torch._utils", "_rebuild_tensor_v3", Role::tensor_v3},
    {"torch._utils", "_rebuild_wrapper_subclass", Role::inert},
    {"torch._utils", "_rebuild_xla_tensor", Role::device_tensor_from_numpy},
    {"torch.autograd.variable", "Variable", Role::tensor_class},
    {"torch.jit._pickle", "build_boollist", Role::script_identity},
    {"torch.jit._pickle", "build_doublelist", Role::script_identity},
    {"torch.jit._pickle", "build_intlist", Role::script_identity},
    {"torch.jit._pickle", "build_tensorlist", Role::script_identity},
    {"torch.jit._pickle", "restore_type_tag", Role::script_identity},
    {"torch.nn.parameter", "Parameter", Role::parameter_class},
    {"torch.serialization", "_get_layout", Role::layout},
    {"torch.storage", "_load_from_bytes", Role::load_from_bytes},
};

/// A global of a pickle.
struct Global {
  std::string_view module;
  std::string_view name;
  Role role = Role::unknown;
  std::optional<DType> dtype;  ///< of a dtype or storage class; none for UntypedStorage

  std::string full_name() const;  ///< "os.system", fit for an error
};

/// Looks a global up. Modules renamed since are known by both names.
Global look_up(std::string_view module, std::string_view name) noexcept;

/// True for names that a file holds only to attack the program that unpickles it: os.system, builtins.eval. Here they
/// could do nothing, for nothing is called; but a file that names one is no checkpoint, and should not pass for one.
bool is_attack(std::string_view module, std::string_view name) noexcept;

}  // namespace torchkeep::pickle
