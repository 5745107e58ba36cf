// SPDX-License-Identifier: BSD-3-Clause
// state_dict and load_state_dict of LibTorch's optimizers, in exactly Python's form.
#pragma once

#include <concepts>
#include <initializer_list>
#include <string>
#include <utility>
#include <vector>

#include <torch/nn/module.h>
#include <torch/optim/optimizer.h>

#include <torchkeep/state/value.h>
#include <torchkeep/torch/module.h>
#include <torchkeep/torch/report.h>

namespace torchkeep {

/// A module and the name its parameters go under: {"encoder", *encoder} names them "encoder.<name>".
struct NamedModule {
  NamedModule(std::string prefix, const torch::nn::Module& object) : name(std::move(prefix)), module(&object) {}
  template <ModuleHandle T>
  NamedModule(std::string prefix, const T& handle) : NamedModule(std::move(prefix), detail::held(handle)) {}

  std::string name;  ///< empty: the parameters go under their own names
  const torch::nn::Module* module;
};

/// The modules an optimizer's parameters belong to: *model, model (a holder), or {{"encoder", *e}, {"decoder", *d}}.
/// Only looked at during the call it is passed to.
class NamedModules {
 public:
  template <std::derived_from<torch::nn::Module> Module>  // a template, so that no braced list becomes a Module
  NamedModules(const Module& module) : modules_{{std::string(), module}} {}  // NOLINT
  template <ModuleHandle T>
  NamedModules(const T& handle) : modules_{{std::string(), handle}} {}  // NOLINT
  NamedModules(std::initializer_list<NamedModule> modules) : modules_(modules) {}
  explicit NamedModules(std::vector<NamedModule> modules) : modules_(std::move(modules)) {}

  const std::vector<NamedModule>& modules() const noexcept { return modules_; }

 private:
  std::vector<NamedModule> modules_;
};

/// How to write an optimizer's state.
struct OptimizerSaveOptions {
  /// Write the parameters' names, under "param_names" beside the groups. Python's load_state_dict() ignores them there.
  bool param_names = true;
};

/// How to load an optimizer's state.
struct OptimizerLoadOptions {
  /// Hyperparameters that keep their current value instead of the file's, by Python's names: {"lr"}, {"lr", "betas"}.
  /// Keeping "lr" keeps the current initial_lr too.
  std::vector<std::string> keep = {};
  /// Keep all current hyperparameters and extras (see group_extras).
  bool keep_hyperparameters = false;
  /// Carry over only what fits: a parameter that the file does not have, or whose state has another shape, starts
  /// without state, and the report names it. Without it such a parameter is an Error. Without names in the file the
  /// groups must still be of the same number and size.
  bool partial = false;
  /// Match by order even when the file has names.
  bool by_order = false;
  /// The keys of the modules' states in the file, in its order and behind the modules' names ("model.0.weight"). Where
  /// the file has no names for the optimizer's parameters, they are in the order of these: PyTorch writes both so.
  /// load_into() takes them from the file; see also model_keys().
  std::vector<std::string> model_keys = {};
  /// Taken off the parameter names in the file that begin with it ("module.").
  std::string strip_prefix = {};
};

/// What OptimizerLoadOptions::model_keys wants of a module's state dict: its keys, behind the module's name and a dot.
std::vector<std::string> model_keys(const Value& state, const std::string& name = {});

/// The optimizer's state as Python's Optimizer.state_dict() returns it: {"state": {id: {...}}, "param_groups": [...]},
/// with Python's field names, order, types and defaults. Tensors look at live memory. Works for Adam, AdamW, SGD,
/// RMSprop, Adagrad and LBFGS; for another class throws Error (unsupported).
/// `step` is a float32 0-d tensor (float64 if that is LibTorch's default dtype), as in Python. float32 counts to 2^24:
/// a step above it is written as float64, which Python's optimizers read and continue.
/// Throws Error (corrupt) when a parameter's state is a null pointer: LibTorch makes such when it loads an archive of
/// an old version, and the state is lost.
Value state_dict(const torch::optim::Optimizer& optimizer);

/// The same, with the names of the parameters in `modules`. Throws Error (invalid_argument) for a parameter of the
/// optimizer that is in none of them.
Value state_dict(const torch::optim::Optimizer& optimizer, const NamedModules& modules,
                 const OptimizerSaveOptions& options = {});

/// Gives the optimizer the state and hyperparameters of `value`, written by C++ or Python for the same class.
/// Parameters are matched by order, then by the shapes of their state. State tensors keep the file's dtype and strides,
/// bit for bit, and go to the parameter's device. A parameter without state in the file loses the state it has. All
/// checks and all reading come first; all that does not fit is in one Error and nothing is changed. Throws Error:
/// mismatch (names, counts, shapes, another optimizer's state), unsupported (an option LibTorch lacks that changes the
/// mathematics: maximize), and what reading `value` throws.
LoadReport load_state_dict(torch::optim::Optimizer& optimizer, const Value& value,
                           const OptimizerLoadOptions& options = {});

/// The same; parameters are matched by their names in `modules` when the file has names.
LoadReport load_state_dict(torch::optim::Optimizer& optimizer, const Value& value, const NamedModules& modules,
                           const OptimizerLoadOptions& options = {});

}  // namespace torchkeep
