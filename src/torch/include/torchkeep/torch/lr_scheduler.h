// SPDX-License-Identifier: BSD-3-Clause
// The schedulers of torchkeep::lr_scheduler on LibTorch's optimizers: StepLR scheduler(adam, {.step_size = 30}).
#pragma once

#include <concepts>
#include <memory>

#include <torch/optim/optimizer.h>

#include <torchkeep/schedule/lr_scheduler.h>

namespace torchkeep::lr_scheduler {

/// The parameter groups of a LibTorch optimizer, which must outlive the schedulers and stay where it is. lr, momentum
/// and betas are the options of the groups; what schedulers add (initial_lr, max_lr ...) are extras of the groups (see
/// group_extras), which state_dict(optimizer) writes as Python does. For an optimizer class of your own call
/// keep_group_extras first; such a class has no momentum that could be cycled.
std::shared_ptr<ParamGroups> bind_optimizer(torch::optim::Optimizer& optimizer);

template <std::derived_from<torch::optim::Optimizer> O>
struct BindOptimizer<O> {
  static std::shared_ptr<ParamGroups> bind(O& optimizer) { return bind_optimizer(optimizer); }
};

}  // namespace torchkeep::lr_scheduler
