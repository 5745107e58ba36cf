// SPDX-License-Identifier: BSD-3-Clause
// The schedulers' view of LibTorch's groups: options for what LibTorch has, extras for the rest.
#include "param_groups.h"

#include <torchkeep/torch/group_extras.h>
#include <torchkeep/torch/lr_scheduler.h>

#include "optimizer_table.h"

namespace torchkeep {

using lr_scheduler::GroupMemory;
using lr_scheduler::MomentumKind;
using lr_scheduler::Number;

std::optional<Number> TorchGroups::get(std::size_t group, std::string_view key) const {
  const std::optional<Value> value = group_value(optimizer_, group, key);
  if (!value) return std::nullopt;
  return key == "betas" ? (*value)[0].to<Number>() : value->to<Number>();
}

void TorchGroups::set(std::size_t group, std::string_view key, const Number& value) {
  if (key == "betas") {
    const std::optional<Value> betas = group_value(optimizer_, group, key);
    set_group_value(optimizer_, group, key, Tuple{value, (*betas)[1]});
  } else {
    set_group_value(optimizer_, group, key, value);
  }
}

MomentumKind TorchGroups::momentum_kind() const {
  const OptimizerRow* row = find_row(optimizer_);
  if (row != nullptr && row->find("betas") != nullptr) return MomentumKind::betas;
  return row != nullptr && row->find("momentum") != nullptr ? MomentumKind::momentum : MomentumKind::none;
}

std::string TorchGroups::optimizer_name() const {
  const OptimizerRow* row = find_row(optimizer_);
  return row != nullptr ? std::string(row->name) : "an optimizer";
}

GroupMemory& TorchGroups::memory(std::size_t group) {
  std::vector<GroupMemory>& memories = detail::make_group_extras(optimizer_).memories;
  if (memories.size() <= group) memories.resize(group + 1);
  return memories[group];
}

std::shared_ptr<lr_scheduler::ParamGroups> lr_scheduler::bind_optimizer(torch::optim::Optimizer& optimizer) {
  return std::make_shared<TorchGroups>(optimizer);
}

}  // namespace torchkeep
