// SPDX-License-Identifier: BSD-3-Clause
// A checkpoint straight into live LibTorch objects, without a second copy of the state in memory.
#pragma once

#include <functional>
#include <initializer_list>
#include <string>
#include <utility>
#include <vector>

#include <torchkeep/checkpoint/checkpoint.h>
#include <torchkeep/format/live_reader.h>
#include <torchkeep/torch/module.h>
#include <torchkeep/torch/optimizer.h>

namespace torchkeep {

/// An object that load_into() fills: a module, an optimizer, an optimizer with the modules that name its parameters. It
/// must outlive the call.
class LoadTarget {
 public:
  LoadTarget(torch::nn::Module& module, const ModuleLoadOptions& options = {});  // NOLINT: a module is a target
  LoadTarget(torch::optim::Optimizer& optimizer, const OptimizerLoadOptions& options = {});  // NOLINT
  LoadTarget(torch::optim::Optimizer& optimizer, NamedModules modules, const OptimizerLoadOptions& options = {});
  template <ModuleHandle T>
  LoadTarget(T& module, const ModuleLoadOptions& options = {}) : LoadTarget(*module, options) {}  // NOLINT

  /// The keys of a module's state in the file, behind the module's name; none where the file does not have it.
  using KeysOf = std::function<std::vector<std::string>(const NamedModule&)>;
  /// Checks a saved state and returns the function that puts it in, to be called when `reader` has read.
  std::function<void()> prepare(const Value& state, LiveReader& reader, const KeysOf& keys_of) const {
    return prepare_(state, reader, keys_of);
  }
  /// Whether it is this module.
  bool is(const torch::nn::Module& module) const noexcept { return module_ == &module; }

 private:
  const torch::nn::Module* module_ = nullptr;
  std::function<std::function<void()>(const Value&, LiveReader&, const KeysOf&)> prepare_;
};

/// Loads each entry of `path` into the object that stands beside its key:
///
///   auto rest = tk::load_into("checkpoint.pt", {{"model_state_dict", model}, {"optimizer_state_dict", {adam,
///   model}}}); scheduler.load_state_dict(rest["scheduler_state_dict"]);
///
/// Parameters and moments are read from the file into the tensors they belong to (a new optimizer gets its moments
/// first); only what has another dtype, device or layout goes through memory of its own. Keys, names, shapes and dtypes
/// of all objects are checked as load_state_dict() does before the first of them is changed; an Error (corrupt, io)
/// after that says that they are partly overwritten. LoadIntoOptions::verify_first checks the file before. Returns the
/// other entries of the file.
Value load_into(const std::string& path, std::initializer_list<std::pair<std::string, LoadTarget>> targets,
                const LoadIntoOptions& options = {});

}  // namespace torchkeep
