// SPDX-License-Identifier: BSD-3-Clause
// A LibTorch optimizer's parameter groups as the schedulers see them.
#pragma once

#include <torch/optim/optimizer.h>

#include <torchkeep/schedule/groups.h>

namespace torchkeep {

class TorchGroups final : public lr_scheduler::ParamGroups {
 public:
  explicit TorchGroups(torch::optim::Optimizer& optimizer) : optimizer_(optimizer) {}

  std::size_t size() const override { return optimizer_.param_groups().size(); }
  std::optional<lr_scheduler::Number> get(std::size_t group, std::string_view key) const override;
  void set(std::size_t group, std::string_view key, const lr_scheduler::Number& value) override;
  lr_scheduler::MomentumKind momentum_kind() const override;
  std::string optimizer_name() const override;
  const void* identity() const override { return &optimizer_; }
  lr_scheduler::GroupMemory& memory(std::size_t group) override;

 private:
  torch::optim::Optimizer& optimizer_;
};

}  // namespace torchkeep
