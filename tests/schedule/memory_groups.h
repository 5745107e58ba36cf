// SPDX-License-Identifier: BSD-3-Clause
// Parameter groups without an optimizer: what the schedulers drive in tests of the core.
#pragma once

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <torchkeep/schedule/groups.h>

namespace torchkeep::test {

/// Each group is a dict as in Python, without the keys that schedulers do not touch.
class MemoryGroups final : public lr_scheduler::ParamGroups {
 public:
  MemoryGroups(lr_scheduler::MomentumKind kind, std::vector<Value> groups) : kind_(kind) {
    load(std::move(groups));
    fresh();
  }

  std::size_t size() const override { return groups_.size(); }

  std::optional<lr_scheduler::Number> get(std::size_t group, std::string_view key) const override {
    const auto value = groups_.at(group).find(Value::string(std::string(key)));
    if (!value) return std::nullopt;
    return value->is(Kind::tuple) ? (*value)[0].to<lr_scheduler::Number>() : value->to<lr_scheduler::Number>();
  }

  void set(std::size_t group, std::string_view key, const lr_scheduler::Number& value) override {
    const Value name = Value::string(std::string(key));
    if (key == "betas")
      groups_.at(group).set(name, Tuple{value, groups_.at(group)["betas"][1]});
    else
      groups_.at(group).set(name, value);
  }

  lr_scheduler::MomentumKind momentum_kind() const override { return kind_; }
  std::string optimizer_name() const override { return "MemoryGroups"; }
  const void* identity() const override { return this; }
  lr_scheduler::GroupMemory& memory(std::size_t group) override { return memory_.at(group); }

  /// Optimizer.load_state_dict: the groups of a state dict replace these.
  void load(std::vector<Value> groups) {
    groups_ = std::move(groups);
    memory_.resize(groups_.size());
    remember_loaded();
  }
  void add(Value group) {
    groups_.push_back(std::move(group));
    memory_.resize(groups_.size());
  }
  const std::vector<Value>& groups() const { return groups_; }

 private:
  void fresh() { memory_.assign(groups_.size(), {}); }

  lr_scheduler::MomentumKind kind_;
  std::vector<Value> groups_;
  std::vector<lr_scheduler::GroupMemory> memory_;
};

}  // namespace torchkeep::test
