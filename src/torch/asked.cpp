// SPDX-License-Identifier: BSD-3-Clause
// Hyperparameters as they are asked for: a scheduler's changes of the learning rate do not count.
#include "asked.h"

#include <fmt/format.h>

#include <torchkeep/torch/group_extras.h>

#include "errors.h"
#include "optimizer_table.h"

namespace torchkeep {
namespace {

constexpr std::string_view kModule = "torch.optim:";

/// Numbers are compared as numbers: Python writes the default weight_decay as the int 0.
bool is_same(const Value& a, const Value& b) {
  if (a == b) return true;
  if (a.is_sequence() && b.is_sequence() && a.size() == b.size()) {
    for (std::size_t i = 0; i < a.size(); ++i) {
      if (!is_same(a.elements()[i], b.elements()[i])) return false;
    }
    return true;
  }
  const auto is_number = [](const Value& value) { return value.is(Kind::integer) || value.is(Kind::real); };
  return is_number(a) && is_number(b) && read_number(a) == read_number(b);
}

std::string text(const Value& value) {
  if (value.is(Kind::real) || value.is(Kind::integer)) return fmt::format("{}", read_number(value));
  if (value.is(Kind::boolean)) return value.as_boolean() ? "true" : "false";
  if (value.is(Kind::string)) return fmt::format("'{}'", value.as_string());
  if (!value.is_sequence()) return std::string(to_string(value.kind()));
  std::string elements;
  for (const Value& element : value.elements()) elements += (elements.empty() ? "" : ", ") + text(element);
  return "(" + elements + ")";
}

Value asked_for_group(const OptimizerRow& row, const torch::optim::Optimizer& optimizer, std::size_t group) {
  Value asked = Value::mapping(Kind::dict);
  const Value extras = group_extras(optimizer, group);
  for (const Hyperparameter& one : row.hyperparameters) {
    if (one.place == Hyperparameter::Place::option)
      asked.set(one.name, written(one, optimizer.param_groups()[group].options(), extras));
  }
  if (const auto initial = extras.find("initial_lr")) asked.set("lr", *initial);
  return asked;
}

std::optional<Value> find_in(const Value& value, std::string_view key) {
  return value.is_mapping() ? value.find(Value(key)) : std::nullopt;
}

std::optional<Value> element_of(const std::optional<Value>& list, std::size_t i) {
  if (!list || !list->is_sequence() || i >= list->size()) return std::nullopt;
  return list->elements()[i];
}

/// The class that the checkpoint's object was of, without the module.
std::optional<std::string> recorded_class(const Value& recorded) {
  const auto there = find_in(recorded, "class");
  if (!there || !there->is(Kind::string)) return std::nullopt;
  return there->as_string().substr(there->as_string().find_last_of(":.") + 1);
}

}  // namespace

Value asked_for_scheduler(const std::string& class_name) {
  const std::string module = class_name == "SWALR" ? "torch.optim.swa_utils:" : "torch.optim.lr_scheduler:";
  return Value{{"class", Value::string(module + class_name)}};
}

std::optional<std::string> other_scheduler(const std::string& class_name, const Value& recorded) {
  const auto there = recorded_class(recorded);
  if (!there || *there == class_name) return std::nullopt;
  return fmt::format("the scheduler is {} here and {} in the checkpoint, which is used", class_name, *there);
}

Value asked_for(const torch::optim::Optimizer& optimizer) {
  const OptimizerRow* const row = find_row(optimizer);
  if (row == nullptr) return {};
  return at_the_edge([&] {
    Value groups = List{};
    for (std::size_t g = 0; g < optimizer.param_groups().size(); ++g)
      groups.append(asked_for_group(*row, optimizer, g));
    return Value{{"class", Value::string(std::string(kModule) + std::string(row->name))}, {"hyperparameters", groups}};
  });
}

std::vector<std::string> overridden(const torch::optim::Optimizer& optimizer, const Value& recorded,
                                    const Value& state) {
  std::vector<std::string> lines;
  const Value own = asked_for(optimizer);
  if (!own.is_mapping() || !recorded.is_mapping()) return lines;
  const auto there = recorded_class(recorded);
  const std::string here = own["class"].as_string().substr(kModule.size());
  if (there && *there != here) {
    lines.push_back(
        fmt::format("the optimizer is {} here and {} in the checkpoint, whose state is used", here, *there));
  }
  const Value groups = own["hyperparameters"];
  for (std::size_t g = 0; g < groups.size(); ++g) {
    const auto was = element_of(find_in(recorded, "hyperparameters"), g);
    const auto saved = element_of(find_in(state, "param_groups"), g);
    if (!was || !saved) continue;
    for (const Entry& entry : groups.elements()[g].items()) {
      const auto asked = find_in(*was, entry.key.as_string());
      const auto used = find_in(*saved, entry.key.as_string());
      if (!asked || !used || is_same(*asked, entry.value) || is_same(*used, entry.value)) continue;
      lines.push_back(fmt::format("{}{} is {} here and {} in the checkpoint, which is used", entry.key.as_string(),
                                  groups.size() > 1 ? fmt::format(" of group {}", g) : "", text(entry.value),
                                  text(*asked)));
    }
  }
  return lines;
}

}  // namespace torchkeep
