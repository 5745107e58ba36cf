// SPDX-License-Identifier: BSD-3-Clause
// Completeness: parameters without a module, dropout without generators, schedules without a scheduler.
#include "completeness.h"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <set>

#include <torch/nn/modules/activation.h>
#include <torch/nn/modules/dropout.h>
#include <torch/nn/modules/rnn.h>

#include <torchkeep/torch/group_extras.h>

#include "module_walk.h"
#include "tensor_io.h"

namespace torchkeep {
namespace {

/// The probability with which a module drops, 0 for other modules.
double dropout_of(const torch::nn::Module& module) {
  using namespace torch::nn;
  if (const auto* m = dynamic_cast<const DropoutImpl*>(&module)) return m->options.p();
  if (const auto* m = dynamic_cast<const Dropout2dImpl*>(&module)) return m->options.p();
  if (const auto* m = dynamic_cast<const Dropout3dImpl*>(&module)) return m->options.p();
  if (const auto* m = dynamic_cast<const AlphaDropoutImpl*>(&module)) return m->options.p();
  if (const auto* m = dynamic_cast<const FeatureAlphaDropoutImpl*>(&module)) return m->options.p();
  if (const auto* m = dynamic_cast<const MultiheadAttentionImpl*>(&module)) return m->options.dropout();
  if (const auto* m = dynamic_cast<const RNNImpl*>(&module)) return m->options_base.dropout();
  if (const auto* m = dynamic_cast<const LSTMImpl*>(&module)) return m->options_base.dropout();
  if (const auto* m = dynamic_cast<const GRUImpl*>(&module)) return m->options_base.dropout();
  return 0;
}

std::string path_of(const TrackedModule& tracked, const ModuleNode& node) {
  return node.prefix.empty() ? tracked.name : tracked.name + "." + node.prefix;
}

std::set<const void*> parameters_of(const std::vector<TrackedModule>& modules) {
  std::set<const void*> parameters;
  for (const TrackedModule& tracked : modules) {
    for (const ModuleNode& node : walk(*tracked.module)) {
      for (const NamedTensor& parameter : node.parameters) parameters.insert(parameter.tensor.unsafeGetTensorImpl());
    }
  }
  return parameters;
}

/// "parameter 3 of group 0, shape (10, 5)"
std::vector<std::string> strangers(const torch::optim::Optimizer& optimizer, const std::set<const void*>& known) {
  std::vector<std::string> list;
  for (std::size_t g = 0; g < optimizer.param_groups().size(); ++g) {
    const auto& parameters = optimizer.param_groups()[g].params();
    for (std::size_t i = 0; i < parameters.size(); ++i) {
      if (known.contains(parameters[i].unsafeGetTensorImpl())) continue;
      list.push_back(fmt::format("parameter {} of group {}, shape {}", i, g, shape_text(parameters[i].sizes())));
    }
  }
  return list;
}

void add_strangers(const TrackedObjects& tracked, std::vector<std::string>& warnings) {
  auto known = parameters_of(tracked.modules);
  for (const at::Tensor* tensor : tracked.tensors) known.insert(tensor->unsafeGetTensorImpl());
  for (const TrackedOptimizer& one : tracked.optimizers) {
    const auto unknown = strangers(*one.optimizer, known);
    if (unknown.empty()) continue;
    warnings.push_back(
        fmt::format("optimizer '{}' trains what is in no tracked module, so these values will not be saved, and the "
                    "optimizer's state "
                    "goes by order instead of by name: {}",
                    one.name, fmt::join(unknown, "; ")));
  }
}

void add_dropout(const TrackedObjects& tracked, std::vector<std::string>& warnings) {
  std::vector<std::string> droppers;
  for (const TrackedModule& one : tracked.modules) {
    for (const ModuleNode& node : walk(*one.module)) {
      if (dropout_of(*node.module) > 0) droppers.push_back(path_of(one, node));
    }
  }
  if (droppers.empty()) return;
  warnings.push_back(fmt::format(
      "the generators are not saved (RunOptions::rng is false), so a resumed run drops other elements in {}",
      fmt::join(droppers, ", ")));
}

void add_schedules(const TrackedObjects& tracked, std::vector<std::string>& warnings) {
  std::vector<std::string> scheduled;
  for (const TrackedOptimizer& one : tracked.optimizers) {
    for (std::size_t g = 0; g < one.optimizer->param_groups().size(); ++g) {
      if (!group_extras(*one.optimizer, g).contains("initial_lr")) continue;
      scheduled.push_back("'" + one.name + "'");
      break;
    }
  }
  if (scheduled.size() <= tracked.schedulers.size()) return;
  warnings.push_back(fmt::format(
      "{} has an initial_lr, so a scheduler moves its learning rate, but {}: its position will not be saved",
      fmt::join(scheduled, ", "),
      tracked.schedulers.empty() ? "no scheduler is tracked"
                                 : fmt::format("only {} tracked", tracked.schedulers.size())));
}

}  // namespace

NamedModules TrackedObjects::named_modules() const {
  std::vector<NamedModule> named;
  for (const TrackedModule& one : modules) named.emplace_back(one.name, *one.module);
  return NamedModules(std::move(named));
}

bool TrackedObjects::covers(const torch::optim::Optimizer& optimizer) const {
  return strangers(optimizer, parameters_of(modules)).empty();
}

std::vector<std::string> completeness_warnings(const TrackedObjects& tracked, bool rng) {
  std::vector<std::string> warnings;
  add_strangers(tracked, warnings);
  if (!rng) add_dropout(tracked, warnings);
  add_schedules(tracked, warnings);
  return warnings;
}

}  // namespace torchkeep
