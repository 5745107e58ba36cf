// SPDX-License-Identifier: BSD-3-Clause
// Gradients out of parameters and back into them.
#include "gradients.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <torchkeep/torch/tensor.h>

#include "errors.h"
#include "module_walk.h"
#include "tensor_io.h"

namespace torchkeep {
namespace {

/// Every parameter once, under the name of its first occurrence.
std::vector<NamedTensor> named_parameters_of(const std::vector<TrackedModule>& modules) {
  std::vector<NamedTensor> parameters;
  for (const TrackedModule& one : modules) {
    for (const ModuleNode& node : walk(*one.module)) {
      for (const NamedTensor& parameter : node.parameters) {
        parameters.push_back({one.name + "." + parameter.name, parameter.tensor});
      }
    }
  }
  return parameters;
}

struct Setting {
  at::Tensor parameter;
  at::Tensor gradient;  ///< undefined: none
};

}  // namespace

Value gradients_of(const std::vector<TrackedModule>& modules) {
  Value gradients = Value::mapping(Kind::dict);
  for (const NamedTensor& one : named_parameters_of(modules)) {
    if (one.tensor.grad().defined()) gradients.set(one.name, to_leaf(one.tensor.grad().detach()));
  }
  return gradients;
}

std::function<void()> prepare_gradients(const std::vector<TrackedModule>& modules, const Value& value) {
  if (!value.is_mapping()) value.fail_kind("a dict of gradients");
  std::vector<Setting> settings;
  std::vector<std::string> offenders;
  std::size_t found = 0;
  for (const NamedTensor& one : named_parameters_of(modules)) {
    Setting setting{one.tensor, {}};
    if (const auto gradient = value.find(Value::string(one.name))) {
      ++found;
      const Tensor& leaf = gradient->as_tensor();
      if (one.tensor.sizes() == leaf.sizes) {
        setting.gradient = placed(*gradient, [&] { return to_torch(leaf).to(one.tensor.device()); });
      } else {
        offenders.push_back(fmt::format("{}: shape {} in the file, {} here", one.name, shape_text(leaf.sizes),
                                        shape_text(one.tensor.sizes())));
      }
    }
    settings.push_back(std::move(setting));
  }
  if (found < value.size()) offenders.push_back(fmt::format("{} of no parameter here", value.size() - found));
  if (!offenders.empty()) {
    value.fail(Code::mismatch, fmt::format("the gradients do not fit: {}", fmt::join(offenders, "; ")));
  }
  return [settings = std::move(settings)] {
    for (const Setting& setting : settings) setting.parameter.mutable_grad() = setting.gradient;
  };
}

}  // namespace torchkeep
