// SPDX-License-Identifier: BSD-3-Clause
// Stepping and state of LRScheduler, after torch/optim/lr_scheduler.py of PyTorch 2.13.
#include "schedule.h"

#include <algorithm>
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <iterator>

#include "attributes.h"

namespace torchkeep::lr_scheduler::detail {

void check_zip(std::size_t first, std::size_t second) {
  if (first == second) return;
  throw Error(
      Code::mismatch,
      fmt::format("zip() argument 2 is {} than argument 1: {} and {} values for the parameter groups. Was a group "
                  "added after the scheduler was constructed?",
                  second < first ? "shorter" : "longer", first, second));
}

std::size_t bisect_right(const Numbers& list, const Number& x) {
  std::size_t low = 0;
  std::size_t high = list.size();
  while (low < high) {
    const std::size_t middle = (low + high) / 2;
    if (x < list[middle])
      high = middle;
    else
      low = middle + 1;
  }
  return low;
}

Numbers format_param(std::string_view name, const ParamGroups& groups, const PerGroup& param) {
  if (!param.is_list()) return Numbers(groups.size(), param.values().front());
  if (param.values().size() != groups.size()) {
    throw Error(
        Code::invalid_argument,
        fmt::format("{} must have the same length as optimizer.param_groups. {} has {} values, param_groups has {}.",
                    name, name, param.values().size(), groups.size()));
  }
  return param.values();
}

void Schedule::add(std::string name, Slot slot, Role role) {
  attributes_.push_back({std::move(name), std::move(slot), role});
}

Attribute* Schedule::find(std::string_view name) {
  const auto found = std::find_if(attributes_.begin(), attributes_.end(),
                                  [&](const Attribute& attribute) { return attribute.name == name; });
  return found == attributes_.end() ? nullptr : &*found;
}

void Schedule::create(std::string_view name) {
  Attribute* attribute = find(name);
  if (attribute->role != Role::dormant && attribute->role != Role::unused) return;
  attribute->role = attribute->role == Role::dormant ? Role::passing : Role::derived;
  std::rotate(attribute, attribute + 1, attributes_.data() + attributes_.size());
}

Number Schedule::group(std::size_t index, std::string_view key) const {
  const auto value = groups_->get(index, key);
  if (!value) throw Error(Code::mismatch, fmt::format("KeyError: '{}' is missing in param_groups[{}]", key, index));
  return *value;
}

Numbers Schedule::group_values(std::string_view key) const {
  Numbers values;
  for (std::size_t i = 0; i < groups_->size(); ++i) values.push_back(group(i, key));
  return values;
}

void Schedule::write_lr(const Numbers& values) {
  check_zip(groups_->size(), values.size());
  for (std::size_t i = 0; i < values.size(); ++i) groups_->set(i, "lr", values[i]);
  last_lr_ = group_values("lr");
}

void Schedule::write_momentum(std::size_t index, const Number& value) {
  groups_->set(index, groups_->momentum_kind() == MomentumKind::betas ? "betas" : "momentum", value);
}

bool Schedule::require_momentum() const {
  if (groups_->momentum_kind() == MomentumKind::none) {
    throw Error(Code::invalid_argument,
                "optimizer must support momentum or beta1 with `cycle_momentum` option enabled");
  }
  return groups_->momentum_kind() == MomentumKind::betas;
}

void Schedule::plan_momentum(const Value& state, LoadPlan& plan) const {
  const Value cycles = state.get("cycle_momentum", false);
  if (plan.keep_arguments || !cycles.is(Kind::boolean) || !cycles.as_boolean()) return;
  const Value stored = state.get("use_beta1", groups_->momentum_kind() == MomentumKind::betas);
  const bool fits =
      stored.is(Kind::boolean) && stored.as_boolean() == (groups_->momentum_kind() == MomentumKind::betas);
  if (fits && groups_->momentum_kind() != MomentumKind::none) return;
  plan.problems.push_back(fmt::format("it cycles {}, which {} does not have",
                                      fits ? "momentum" : "the other of momentum and betas",
                                      groups_->optimizer_name()));
}

void Schedule::step() {
  ++step_count_;
  ++last_epoch_;
  write_lr(get_lr());
}

void Schedule::step_to(const Number& epoch) {
  ++step_count_;
  last_epoch_ = floor_to_int(epoch);
  const auto closed = closed_form_lr();
  write_lr(closed ? *closed : get_lr());
}

void Schedule::initial_step() {
  create("_step_count");
  step_count_ = 0;
  create("_is_initial");
  is_initial_ = true;
  step();
  is_initial_ = false;
}

void Schedule::start_at_zero() {
  last_epoch_ = 0;
  const auto closed = closed_form_lr();
  write_lr(closed ? *closed : get_lr());
}

Value Schedule::state_dict() const {
  Value state = Value::mapping(Kind::dict);
  for (const Attribute& attribute : attributes_) {
    if (attribute.role == Role::dormant || attribute.role == Role::unused) continue;
    state.set(Value::string(attribute.name), to_value(attribute.slot));
  }
  save_special(state);
  return state;
}

void Schedule::plan_attribute(const Attribute& attribute, const Value& value, const std::string& prefix,
                              LoadPlan& plan) {
  const bool argument =
      attribute.role == Role::argument || attribute.role == Role::derived || attribute.role == Role::unused;
  const auto assign = plan_assignment(attribute.slot, value);
  const std::string given = attribute.role == Role::unused ? "absent" : to_text(attribute.slot);
  const std::string stored = to_text(attribute.slot, value);
  if (argument && given != stored) plan.differences.push_back({prefix + attribute.name, given, stored});
  if (argument && plan.keep_arguments) return;
  plan.commits.push_back([this, name = attribute.name, assign, value] {
    create(name);
    if (assign)
      assign();
    else
      find(name)->slot = value;
  });
}

void Schedule::plan_missing(const Value& state, LoadPlan& plan) const {
  for (const Attribute& attribute : attributes_) {
    const bool required = attribute.role == Role::argument || attribute.role == Role::position;
    if (required && !state.contains(Value::string(attribute.name))) {
      plan.problems.push_back(fmt::format("'{}' is missing", attribute.name));
    }
  }
}

void Schedule::plan_group_count(const Value& state, LoadPlan& plan) const {
  const auto count = [&](std::string_view key) -> std::optional<std::size_t> {
    const auto list = state.find(Value::string(std::string(key)));
    return list && list->is(Kind::list) ? std::optional(list->size()) : std::nullopt;
  };
  // After add_param_group base_lrs stays as it was and _last_lr grows, so one of the two fitting is enough.
  const auto base = count("base_lrs");
  const auto last = count("_last_lr");
  if (!last || *last == groups_->size() || (base && *base == base_lrs_.size())) return;
  plan.problems.push_back(fmt::format("it is for {} parameter groups, the optimizer has {}", *last, groups_->size()));
}

void Schedule::plan_load(const Value& state, const std::string& prefix, LoadPlan& plan) {
  if (!state.is_mapping()) {
    plan.problems.push_back(fmt::format("a dict is expected, found {}", to_string(state.kind())));
    return;
  }
  for (const Entry& entry : state.items()) {
    if (!entry.key.is(Kind::string)) {
      plan.problems.push_back(
          fmt::format("a key of kind {}, where only strings are expected", to_string(entry.key.kind())));
      continue;
    }
    const std::string& key = entry.key.as_string();
    if (is_special(key)) continue;
    const Attribute* attribute = find(key);
    if (!attribute && !owner_of(key).empty()) {
      plan.problems.push_back(fmt::format("'{}' is of {}", key, owner_of(key)));
    } else if (!attribute) {
      plan.commits.push_back([this, key, value = entry.value] { add(key, value, Role::passing); });
    } else {
      try {
        plan_attribute(*attribute, state.at(entry.key), prefix, plan);
      } catch (const Error& error) {
        plan.problems.push_back(error.message());
      }
    }
  }
  plan_missing(state, plan);
  plan_group_count(state, plan);
  plan_special(state, prefix, plan);
}

void GroupArguments::set(ParamGroups& groups, std::size_t group, std::string_view key, const Number& value) {
  groups.set(group, key, value);
  given_.push_back({group, std::string(key), value});
}

void GroupArguments::apply(ParamGroups& groups) const {
  if (!keep_) return;
  for (const auto& [group, key, value] : given_) {
    if (group < groups.size()) groups.set(group, key, value);
  }
}

void GroupArguments::finish_load(const ParamGroups& groups, const std::string& prefix, LoadPlan& plan) {
  keep_ = plan.keep_arguments;
  for (const auto& [group, key, value] : given_) {
    const auto stored = group < groups.size() ? groups.get(group, key) : std::nullopt;
    if (!stored || *stored == value) continue;
    plan.differences.push_back(
        {fmt::format("{}param_groups[{}].{}", prefix, group, key), value.to_string(), stored->to_string()});
  }
}

void LeafSchedule::initialize(std::int64_t last_epoch) {
  for (std::size_t i = 0; i < groups_->size(); ++i) {
    if (groups_->get(i, "initial_lr")) continue;
    if (last_epoch != -1) {
      throw Error(
          Code::mismatch,
          fmt::format(
              "param 'initial_lr' is not specified in param_groups[{}] when resuming scheduler with last_epoch >= "
              "0.\nThis typically happens when:\n1. You're trying to resume training from a checkpoint but haven't "
              "properly loaded the optimizer state\n2. You're using last_epoch >= 0 for a fresh training run (not "
              "recommended)",
              i));
    }
    groups_->set(i, "initial_lr", group(i, "lr"));
  }
  base_lrs_ = group_values("initial_lr");
  last_epoch_ = last_epoch;
  add("base_lrs", &base_lrs_, Role::position);
  add("last_epoch", &last_epoch_, Role::position);
  add("_step_count", &step_count_, Role::position);
  add("_is_initial", &is_initial_, Role::passing);
  add("_get_lr_called_within_step", &get_lr_called_within_step_, Role::passing);
  add("_last_lr", &last_lr_, Role::position);
  initial_step();
}

Numbers LeafSchedule::each_lr(const std::function<Number(const Number&)>& f) const {
  Numbers values;
  for (std::size_t i = 0; i < groups_->size(); ++i) values.push_back(f(group(i, "lr")));
  return values;
}

Numbers LeafSchedule::each_base_lr(const std::function<Number(const Number&)>& f) const {
  Numbers values;
  std::transform(base_lrs_.begin(), base_lrs_.end(), std::back_inserter(values), f);
  return values;
}

}  // namespace torchkeep::lr_scheduler::detail
