// SPDX-License-Identifier: BSD-3-Clause
// Optimizers -> Python's Optimizer.state_dict().
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <map>

#include <torchkeep/torch/group_extras.h>
#include <torchkeep/torch/optimizer.h>

#include "compat.h"
#include "errors.h"
#include "module_walk.h"
#include "optimizer_names.h"
#include "optimizer_table.h"
#include "tensor_io.h"

namespace torchkeep {

namespace {

using Ids = std::map<compat::StateKey, std::int64_t>;
using Names = std::vector<std::vector<std::string>>;

/// Python numbers the parameters group after group. One listed twice in a group has the position of its last
/// occurrence; one that is in an earlier group keeps that group's number.
Ids number_parameters(const Optimizer& optimizer) {
  Ids ids;
  std::int64_t start = 0;
  for (const auto& group : optimizer.param_groups()) {
    const Ids earlier = ids;
    for (std::size_t i = 0; i < group.params().size(); ++i) {
      const compat::StateKey key = compat::state_key(group.params()[i]);
      if (!earlier.contains(key)) ids[key] = start + static_cast<std::int64_t>(i);
    }
    start += static_cast<std::int64_t>(group.params().size());
  }
  return ids;
}

Value write_group(const OptimizerRow& row, const Optimizer& optimizer, std::size_t group, const Ids& ids) {
  const auto& param_group = optimizer.param_groups()[group];
  const Value extras = group_extras(optimizer, group);
  Value dict = Value::mapping(Kind::dict);
  for (const Hyperparameter& hyperparameter : row.hyperparameters) {
    dict.set(hyperparameter.name, written(hyperparameter, param_group.options(), extras));
  }
  for (const Entry& extra : extras.items()) dict.set(extra.key, extra.value);
  Value params = List{};
  for (const at::Tensor& param : param_group.params()) params.append(ids.at(compat::state_key(param)));
  dict.set("params", params);
  return dict;
}

/// The parameter's state, or null when it has none.
const OptimizerParamState* state_of(const Optimizer& optimizer, const at::Tensor& param, const std::string& place) {
  const auto entry = optimizer.state().find(compat::state_key(param));
  if (entry == optimizer.state().end()) return nullptr;
  if (entry->second != nullptr) return entry->second.get();
  throw Error(
      Code::corrupt,
      fmt::format("the optimizer's state of {} is a null pointer, as LibTorch leaves it after loading an archive "
                  "of an old version: that state is lost; load another checkpoint, or erase the entry from "
                  "optimizer.state() to start it anew",
                  place));
}

void write_states(const OptimizerRow& row, const Optimizer& optimizer, const Ids& ids, Value& states) {
  for (std::size_t g = 0; g < optimizer.param_groups().size(); ++g) {
    const auto& group = optimizer.param_groups()[g];
    for (std::size_t i = 0; i < group.params().size(); ++i) {
      const at::Tensor& param = group.params()[i];
      const OptimizerParamState* state = state_of(optimizer, param, parameter_place(g, i));
      if (state == nullptr) continue;
      const Value written = write_state(row, *state, group.options());
      if (!written.empty()) states.set(ids.at(compat::state_key(param)), written);
    }
  }
}

Value write_optimizer(const Optimizer& optimizer, const Names* names) {
  const OptimizerRow& row = row_of(optimizer);
  return at_the_edge([&] {
    const Ids ids = number_parameters(optimizer);
    Value states = Value::mapping(Kind::dict);
    write_states(row, optimizer, ids, states);
    Value groups = List{};
    for (std::size_t g = 0; g < optimizer.param_groups().size(); ++g) {
      groups.append(write_group(row, optimizer, g, ids));
    }
    Value state{{"state", states}, {"param_groups", groups}};
    if (names != nullptr) state.set(kParamNames, *names);
    return state;
  });
}

}  // namespace

std::string parameter_place(std::size_t group, std::size_t index) {
  return fmt::format("parameter {} of group {}", index, group);
}

namespace {

/// Calls `see(parameter, name)` for every parameter, a shared one under each of its names.
template <class See>
void for_each_name(const NamedModules& modules, See&& see) {
  for (const NamedModule& named : modules.modules()) {
    const std::string prefix = named.name.empty() ? "" : named.name + ".";
    for (const ModuleNode& node : walk(*named.module)) {
      for (const NamedTensor& parameter : node.parameters)
        see(compat::state_key(parameter.tensor), prefix + parameter.name);
    }
  }
}

}  // namespace

KnownNames known_names(const NamedModules& modules) {
  KnownNames known;
  std::map<compat::StateKey, std::string> first;
  for_each_name(modules, [&](const compat::StateKey& parameter, const std::string& name) {
    const auto [entry, is_new] = first.emplace(parameter, name);
    if (is_new) known.in_order.push_back(name);
    known.aliases.emplace(name, entry->second);
  });
  return known;
}

std::vector<std::vector<std::string>> parameter_names(const Optimizer& optimizer, const NamedModules& modules) {
  std::map<compat::StateKey, std::string> known;
  for_each_name(modules,
                [&](const compat::StateKey& parameter, const std::string& name) { known.emplace(parameter, name); });
  Names names;
  std::vector<std::string> strangers;
  for (const auto& group : optimizer.param_groups()) {
    std::vector<std::string>& of_group = names.emplace_back();
    for (const at::Tensor& param : group.params()) {
      const auto found = known.find(compat::state_key(param));
      if (found != known.end()) {
        of_group.push_back(found->second);
      } else {
        strangers.push_back(
            fmt::format("{} {}", parameter_place(names.size() - 1, of_group.size()), shape_text(param.sizes())));
        of_group.emplace_back();
      }
    }
  }
  if (!strangers.empty()) {
    throw Error(Code::invalid_argument,
                fmt::format("the optimizer has parameters that are in none of the modules: {}; name every module it "
                            "trains, or none",
                            fmt::join(strangers, ", ")));
  }
  return names;
}

std::vector<std::string> model_keys(const Value& state, const std::string& name) {
  if (!state.is_mapping()) state.fail_kind("a module's state dict");
  std::vector<std::string> keys;
  for (const Entry& entry : state.items()) {
    if (entry.key.is(Kind::string)) keys.push_back((name.empty() ? "" : name + ".") + entry.key.as_string());
  }
  return keys;
}

Value state_dict(const Optimizer& optimizer) {
  return write_optimizer(optimizer, nullptr);
}

Value state_dict(const Optimizer& optimizer, const NamedModules& modules, const OptimizerSaveOptions& options) {
  if (!options.param_names) return write_optimizer(optimizer, nullptr);
  const Names names = parameter_names(optimizer, modules);
  return write_optimizer(optimizer, &names);
}

}  // namespace torchkeep
