// SPDX-License-Identifier: BSD-3-Clause
// state_dict and load_state_dict of LibTorch modules, with Python's names, order and checks.
#pragma once

#include <concepts>
#include <string>
#include <type_traits>
#include <utility>

#include <torch/nn/module.h>
#include <torch/nn/modules/container/any.h>

#include <torchkeep/state/value.h>
#include <torchkeep/torch/report.h>

namespace torchkeep {

/// Something that holds a module: a ModuleHolder such as torch::nn::Linear, a pointer, a std::shared_ptr.
template <class T>
concept ModuleHandle = requires(const T& handle) {
  { *handle } -> std::convertible_to<const torch::nn::Module&>;
};

namespace detail {

[[noreturn]] void throw_no_module();

/// What a handle holds. Throws Error (invalid_argument) for a null pointer and an empty holder.
template <class T>
decltype(auto) held(T&& handle) {
  if constexpr (requires { static_cast<bool>(handle); }) {
    if (!static_cast<bool>(handle)) throw_no_module();
  }
  return *std::forward<T>(handle);
}

}  // namespace detail

/// How to load into a module.
struct ModuleLoadOptions {
  /// Every name and shape must match, else Error (mismatch) lists all that do not and nothing is changed. Without it
  /// what fits is loaded and the report says what did not: fine-tuning with a changed head.
  bool strict = true;
  /// Taken off the names in the file that begin with it: "module." (DistributedDataParallel, DataParallel,
  /// AveragedModel), "_orig_mod." (torch.compile).
  std::string strip_prefix = {};
};

/// The module's parameters and buffers as Python's Module.state_dict() returns them: an OrderedDict from dotted names
/// to detached tensors that look at the live memory, with the `_metadata` attribute. Order: the module's own
/// parameters, its own buffers, then its children, depth first. Undefined tensors are left out.
/// Throws Error (unsupported) for a tensor that cannot be saved (meta, sparse ...), naming it.
Value state_dict(const torch::nn::Module& module);

/// Copies the tensors of `value` (a state dict of C++ or Python) into the module's parameters and buffers, on their
/// device, cast to their dtype. A tensor of shape (1,) fits a 0-d one, and BatchNorm's num_batches_tracked may be
/// missing from a file without `_metadata` or of version 1, both as in PyTorch. A name that is missing although the
/// same tensor is in the file under another name (tied parameters) counts as loaded. All checks and all reading come
/// first: an Error leaves the module as it was. Throws Error: mismatch (see ModuleLoadOptions::strict), and what
/// reading `value` throws.
LoadReport load_state_dict(torch::nn::Module& module, const Value& value, const ModuleLoadOptions& options = {});

/// The same of what a holder or pointer holds. Throws Error (invalid_argument) when it holds nothing.
template <class T>
requires ModuleHandle<std::remove_cvref_t<T>> Value state_dict(T&& module) {
  return torchkeep::state_dict(detail::held(module));
}
template <class T>
requires ModuleHandle<std::remove_cvref_t<T>>
auto load_state_dict(T&& module, const Value& value) {
  return torchkeep::load_state_dict(detail::held(module), value);
}
template <class T>
requires ModuleHandle<std::remove_cvref_t<T>> LoadReport load_state_dict(T&& module, const Value& value,
                                                                         const ModuleLoadOptions& options) {
  return torchkeep::load_state_dict(detail::held(module), value, options);
}
Value state_dict(const torch::nn::AnyModule& module);
LoadReport load_state_dict(torch::nn::AnyModule& module, const Value& value, const ModuleLoadOptions& options = {});

}  // namespace torchkeep
