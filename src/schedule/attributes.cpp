// SPDX-License-Identifier: BSD-3-Clause
// A scheduler's attributes as Values: one overloaded set of functions per type an attribute can have.
#include "attributes.h"

#include <algorithm>
#include <array>
#include <fmt/format.h>
#include <fmt/ranges.h>

namespace torchkeep::lr_scheduler::detail {
namespace {

constexpr std::array<std::string_view, 5> phase_keys = {"end_step", "start_lr", "end_lr", "start_momentum",
                                                        "end_momentum"};

Value save(bool value) {
  return value;
}
Value save(std::int64_t value) {
  return value;
}
Value save(const Number& value) {
  return value;
}
Value save(const std::optional<Number>& value) {
  return value ? Value(*value) : Value();
}
Value save(const std::string& value) {
  return Value::string(value);
}
Value save(const Numbers& values) {
  return values;
}

Value save(const Milestones& milestones) {
  Value counter = Value::mapping(Kind::counter);
  for (const auto& [milestone, count] : milestones) counter.set(milestone, count);
  return counter;
}

Value save(const std::vector<Phase>& phases) {
  Value list = Value::sequence(Kind::list, {});
  for (const Phase& phase : phases) {
    list.append(Value{{"end_step", phase.end_step},
                      {"start_lr", phase.start_lr},
                      {"end_lr", phase.end_lr},
                      {"start_momentum", phase.start_momentum},
                      {"end_momentum", phase.end_momentum}});
  }
  return list;
}

void read(const Value& value, bool& target) {
  target = value.as_boolean();
}
void read(const Value& value, std::int64_t& target) {
  if (!value.is(Kind::integer)) value.fail_kind("int");
  target = value.to<std::int64_t>();
}
void read(const Value& value, Number& target) {
  target = value.to<Number>();
}
void read(const Value& value, std::optional<Number>& target) {
  target = value.to<std::optional<Number>>();
}
void read(const Value& value, std::string& target) {
  target = value.as_string();
}
void read(const Value& value, Numbers& target) {
  target = value.to<Numbers>();
}

void read(const Value& value, Milestones& target) {
  if (!value.is_mapping()) value.fail_kind("collections.Counter");
  target.clear();
  for (const Entry& entry : value.items()) {
    if (!entry.key.is(Kind::integer) && !entry.key.is(Kind::real)) {
      value.fail(Code::mismatch,
                 "a Counter of steps is expected, found a key that is no number (a checkpoint converted "
                 "by torch.distributed.checkpoint turns them into strings)");
    }
    target.emplace_back(entry.key.to<Number>(), value.at(entry.key).to<Number>());
  }
}

void read(const Value& value, std::vector<Phase>& target) {
  if (!value.is(Kind::list)) value.fail_kind("list");
  target.clear();
  for (std::int64_t i = 0; i < static_cast<std::int64_t>(value.size()); ++i) {
    const Value phase = value[i];
    target.push_back({phase["end_step"].to<Number>(), phase["start_lr"].as_string(), phase["end_lr"].as_string(),
                      phase["start_momentum"].as_string(), phase["end_momentum"].as_string()});
    for (std::size_t key = 1; key < phase_keys.size(); ++key) {
      const std::string name = phase[phase_keys[key]].as_string();
      constexpr std::array<std::string_view, 5> known = {"initial_lr", "max_lr", "min_lr", "max_momentum",
                                                         "base_momentum"};
      if (std::find(known.begin(), known.end(), name) == known.end()) {
        phase.fail(Code::mismatch, fmt::format("'{}' is no key of a parameter group that OneCycleLR uses", name));
      }
    }
  }
  if (target.empty()) value.fail(Code::mismatch, "OneCycleLR needs at least one phase, found none");
}

std::string text(bool value) {
  return value ? "True" : "False";
}
std::string text(std::int64_t value) {
  return std::to_string(value);
}
std::string text(const Number& value) {
  return value.to_string();
}
std::string text(const std::optional<Number>& value) {
  return value ? value->to_string() : "None";
}
std::string text(const std::string& value) {
  return fmt::format("'{}'", value);
}

std::string text(const Numbers& values) {
  std::vector<std::string> parts;
  for (const Number& value : values) parts.push_back(value.to_string());
  return fmt::format("[{}]", fmt::join(parts, ", "));
}

std::string text(const Milestones& milestones) {
  std::vector<std::string> parts;
  for (const auto& [milestone, count] : milestones) {
    parts.push_back(fmt::format("{}: {}", milestone.to_string(), count.to_string()));
  }
  return fmt::format("Counter({{{}}})", fmt::join(parts, ", "));
}

std::string text(const std::vector<Phase>& phases) {
  std::vector<std::string> parts;
  for (const Phase& phase : phases) {
    parts.push_back(fmt::format("{} -> {} until {}", phase.start_lr, phase.end_lr, phase.end_step.to_string()));
  }
  return fmt::format("[{}]", fmt::join(parts, ", "));
}

// `target` is not touched: it only says as what `value` is to be read.
template <class T>
T read_as(const Value& value, const T* target) {
  T result = *target;
  read(value, result);
  return result;
}

}  // namespace

Value to_value(const Slot& slot) {
  return std::visit(
      [](const auto& held) -> Value {
        if constexpr (std::is_same_v<decltype(held), const Value&>)
          return held;
        else
          return save(*held);
      },
      slot);
}

std::string to_text(const Slot& slot) {
  return std::visit(
      [](const auto& held) -> std::string {
        if constexpr (std::is_same_v<decltype(held), const Value&>)
          return std::string(to_string(held.kind()));
        else
          return text(*held);
      },
      slot);
}

std::string to_text(const Slot& slot, const Value& value) {
  return std::visit(
      [&](const auto& held) -> std::string {
        if constexpr (std::is_same_v<decltype(held), const Value&>)
          return std::string(to_string(value.kind()));
        else
          return text(read_as(value, held));
      },
      slot);
}

std::function<void()> plan_assignment(const Slot& slot, const Value& value) {
  return std::visit(
      [&](const auto& held) -> std::function<void()> {
        if constexpr (std::is_same_v<decltype(held), const Value&>)
          return nullptr;
        else
          return [target = held, taken = read_as(value, held)] { *target = taken; };
      },
      slot);
}

std::string_view owner_of(std::string_view key) {
  struct Owner {
    std::string_view key, name;
  };
  static constexpr auto owners = std::to_array<Owner>({
      {"lr_lambdas", "LambdaLR or MultiplicativeLR"},
      {"step_size", "StepLR"},
      {"gamma", "StepLR, MultiStepLR, ExponentialLR or CyclicLR"},
      {"milestones", "MultiStepLR"},
      {"factor", "ConstantLR or ReduceLROnPlateau"},
      {"total_iters", "ConstantLR, LinearLR or PolynomialLR"},
      {"start_factor", "LinearLR"},
      {"end_factor", "LinearLR"},
      {"power", "PolynomialLR"},
      {"T_max", "CosineAnnealingLR"},
      {"T_0", "CosineAnnealingWarmRestarts"},
      {"T_i", "CosineAnnealingWarmRestarts"},
      {"T_mult", "CosineAnnealingWarmRestarts"},
      {"T_cur", "CosineAnnealingWarmRestarts"},
      {"eta_min", "CosineAnnealingLR or CosineAnnealingWarmRestarts"},
      {"max_lrs", "CyclicLR"},
      {"total_size", "CyclicLR"},
      {"step_ratio", "CyclicLR"},
      {"scale_mode", "CyclicLR"},
      {"_scale_fn_custom", "CyclicLR"},
      {"cycle_momentum", "CyclicLR or OneCycleLR"},
      {"total_steps", "OneCycleLR"},
      {"_schedule_phases", "OneCycleLR"},
      {"_anneal_func_type", "OneCycleLR"},
      {"anneal_epochs", "SWALR"},
      {"_anneal_strategy", "SWALR"},
      {"min_lrs", "ReduceLROnPlateau"},
      {"patience", "ReduceLROnPlateau"},
      {"cooldown", "ReduceLROnPlateau"},
      {"num_bad_epochs", "ReduceLROnPlateau"},
      {"_milestones", "SequentialLR"},
      {"_schedulers", "SequentialLR or ChainedScheduler"},
      {"base_lrs", "a scheduler that is neither SequentialLR nor ChainedScheduler nor ReduceLROnPlateau"},
  });
  const auto found = std::find_if(owners.begin(), owners.end(), [&](const Owner& owner) { return owner.key == key; });
  return found == owners.end() ? std::string_view() : found->name;
}

}  // namespace torchkeep::lr_scheduler::detail
