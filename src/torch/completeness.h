// SPDX-License-Identifier: BSD-3-Clause
// What a run is likely to lose, said before it is lost.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include <torch/nn/module.h>
#include <torch/optim/optimizer.h>

#include <torchkeep/torch/optimizer.h>

namespace torchkeep {

struct TrackedModule {
  std::string name;
  std::shared_ptr<torch::nn::Module> module;
};

struct TrackedOptimizer {
  std::string name;
  std::shared_ptr<torch::optim::Optimizer> optimizer;
};

struct TrackedScheduler {
  std::string name;
  std::string class_name;  ///< PyTorch's: "StepLR"
};

/// All that is tracked, as far as completeness goes.
struct TrackedObjects {
  std::vector<TrackedModule> modules;
  std::vector<TrackedOptimizer> optimizers;
  std::vector<const at::Tensor*> tensors;
  std::vector<TrackedScheduler> schedulers;

  /// The modules as the optimizers' parameters are named after them.
  NamedModules named_modules() const;
  /// True when each of the optimizer's parameters is in a tracked module.
  bool covers(const torch::optim::Optimizer& optimizer) const;
};

/// One line for everything that looks forgotten, by name.
std::vector<std::string> completeness_warnings(const TrackedObjects& tracked, bool rng);

}  // namespace torchkeep
