// SPDX-License-Identifier: BSD-3-Clause
// Python's param_groups[i][key] over LibTorch's options and the extras kept beside them.
#include <fmt/format.h>

#include <torchkeep/torch/group_extras.h>

#include "compat.h"
#include "errors.h"
#include "optimizer_table.h"

namespace torchkeep {

namespace {

void check_group(const Optimizer& optimizer, std::size_t group) {
  if (group < optimizer.param_groups().size()) return;
  throw Error(Code::invalid_argument,
              fmt::format("group {}: the optimizer has {} parameter groups", group, optimizer.param_groups().size()));
}

/// Keys of the group dict that are written from elsewhere.
bool is_reserved(const OptimizerRow* row, std::string_view key) {
  if (key == "params" || key == "param_names") return true;
  const Hyperparameter* hyperparameter = row == nullptr ? nullptr : row->find(key);
  return hyperparameter == nullptr ? row == nullptr && key == "lr" : hyperparameter->get != nullptr;
}

}  // namespace

detail::GroupExtras& detail::make_group_extras(Optimizer& optimizer) {
  if (auto* extras = dynamic_cast<detail::GroupExtras*>(&optimizer.defaults())) return *extras;
  const OptimizerRow* row = find_row(optimizer);
  if (row == nullptr) {
    throw Error(Code::unsupported,
                "no room for extras in an optimizer class of your own: call "
                "torchkeep::keep_group_extras<YourOptions>(optimizer) first");
  }
  row->keep_extras(optimizer);
  return dynamic_cast<detail::GroupExtras&>(optimizer.defaults());
}

void detail::replace_defaults(Optimizer& optimizer, std::unique_ptr<OptimizerOptions> defaults) {
  compat::defaults_pointer(optimizer) = std::move(defaults);
}

void detail::throw_wrong_options() {
  throw Error(Code::invalid_argument, "the optimizer's default options are not of the type given");
}

Value group_extras(const Optimizer& optimizer, std::size_t group) {
  check_group(optimizer, group);
  const auto* extras = dynamic_cast<const detail::GroupExtras*>(&optimizer.defaults());
  if (extras == nullptr || group >= extras->groups.size()) return Value::mapping(Kind::dict);
  return extras->groups[group];
}

void set_group_extras(Optimizer& optimizer, std::size_t group, Value extras) {
  check_group(optimizer, group);
  if (!extras.is_mapping()) extras.fail_kind("dict");
  const OptimizerRow* row = find_row(optimizer);
  for (const Entry& entry : extras.items()) {
    if (entry.key.is(Kind::string) && is_reserved(row, entry.key.as_string())) {
      throw Error(Code::invalid_argument, fmt::format("'{}' is no extra: LibTorch has it", entry.key.as_string()));
    }
  }
  std::vector<Value>& groups = detail::make_group_extras(optimizer).groups;
  if (groups.size() <= group) groups.resize(group + 1, Value::mapping(Kind::dict));
  groups[group] = std::move(extras);
}

std::optional<Value> group_value(const Optimizer& optimizer, std::size_t group, std::string_view key) {
  const Value extras = group_extras(optimizer, group);
  const OptimizerOptions& options = optimizer.param_groups()[group].options();
  if (const OptimizerRow* row = find_row(optimizer)) {
    if (const Hyperparameter* hyperparameter = row->find(key)) return written(*hyperparameter, options, extras);
  } else if (key == "lr") {
    return at_the_edge([&] { return Value(options.get_lr()); });
  }
  return extras.find(Value(key));
}

void set_group_value(Optimizer& optimizer, std::size_t group, std::string_view key, const Value& value) {
  Value extras = group_extras(optimizer, group);
  OptimizerOptions& options = optimizer.param_groups()[group].options();
  const OptimizerRow* row = find_row(optimizer);
  const Hyperparameter* hyperparameter = row == nullptr ? nullptr : row->find(key);
  if (hyperparameter != nullptr && hyperparameter->set != nullptr) {
    hyperparameter->set(options, value);
  } else if (row == nullptr && key == "lr") {
    at_the_edge([&] { options.set_lr(read_number(value)); });
  } else {
    extras.set(Value(key), value);
    set_group_extras(optimizer, group, std::move(extras));
  }
}

}  // namespace torchkeep
