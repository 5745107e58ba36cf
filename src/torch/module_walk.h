// SPDX-License-Identifier: BSD-3-Clause
// The modules and tensors below a module, in the order in which Python visits them.
#pragma once

#include <string>
#include <vector>

#include <torch/nn/module.h>

namespace torchkeep {

/// A registered tensor and its dotted name.
struct NamedTensor {
  std::string name;
  at::Tensor tensor;
};

/// One module: its dotted prefix ("" for the root, "layer.0"), its own tensors that are defined.
struct ModuleNode {
  std::string prefix;
  const torch::nn::Module* module;
  std::vector<NamedTensor> parameters;
  std::vector<NamedTensor> buffers;
};

/// All modules, each before its children, children depth first in registration order. A module registered twice is
/// there twice, as in Python's state_dict().
std::vector<ModuleNode> walk(const torch::nn::Module& root);

}  // namespace torchkeep
