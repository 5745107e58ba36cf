// SPDX-License-Identifier: BSD-3-Clause
// Python's Optimizer.state_dict() -> optimizers. Everything is read and checked first, then put in place.
#include <algorithm>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <torchkeep/torch/group_extras.h>
#include <torchkeep/torch/optimizer.h>

#include "compat.h"
#include "errors.h"
#include "optimizer_match.h"
#include "optimizer_table.h"
#include "param_groups.h"
#include "prepare.h"
#include "tensor_io.h"

namespace torchkeep {

namespace {

/// What a group will be.
struct StagedGroup {
  std::unique_ptr<OptimizerOptions> options;
  Value extras;
};

/// A parameter's state; null to remove what it has.
struct StagedState {
  compat::StateKey key;
  std::unique_ptr<OptimizerParamState> state;
};

/// Hyperparameters that only one optimizer has, to name the file's when it is another's.
std::string_view looks_like(const Value& group) {
  constexpr std::pair<std::string_view, std::string_view> kSigns[] = {
      {"rho", "Adadelta"},     {"beta2_decay", "Adafactor"},
      {"lr_decay", "Adagrad"}, {"amsgrad", "Adam or AdamW"},
      {"lambd", "ASGD"},       {"max_iter", "LBFGS"},
      {"ns_steps", "Muon"},    {"momentum_decay", "NAdam"},
      {"centered", "RMSprop"}, {"etas", "Rprop"},
      {"dampening", "SGD"},
  };
  for (const auto& [key, name] : kSigns) {
    if (group.contains(Value(key))) return name;
  }
  return {};
}

/// What schedulers put into a group. It stands in a tensor where Python's lr does; like that, it becomes its number.
Value number_of_scheduler(const Value& key, const Value& value) {
  constexpr std::string_view kKeys[] = {"initial_lr", "max_lr", "min_lr", "max_momentum", "base_momentum", "swa_lr"};
  const bool known = std::any_of(std::begin(kKeys), std::end(kKeys), [&](auto name) { return key == Value(name); });
  return known && value.is(Kind::tensor) && value.as_tensor().numel() == 1 ? Value(read_number(value)) : value;
}

class Loader {
 public:
  Loader(Optimizer& optimizer, const Value& value, const NamedModules* modules, const OptimizerLoadOptions& options,
         LiveReader* reader)
      : optimizer_(optimizer), value_(value), options_(options), reader_(reader), row_(row_of(optimizer)) {
    check_keep();
    states_ = value["state"];
    if (!states_.is_mapping()) states_.fail_kind("dict");
    matching_ = match_parameters(optimizer, value, modules, options);
  }

  /// Checks everything and reads what is in memory or small; commit() then can only fail where the file does.
  void stage() {
    for (std::size_t g = 0; g < optimizer_.param_groups().size(); ++g) groups_.push_back(stage_group(g));
    if (row_.is_per_group()) {
      stage_shared_state();
    } else {
      for (const Slot& slot : matching_.slots) stage_state(slot);
    }
    check_no_orphans();
    throw_if_it_does_not_fit();
  }

  void commit() {
    for (std::size_t g = 0; g < groups_.size(); ++g) {
      row_.assign(optimizer_.param_groups()[g].options(), *groups_[g].options);
      if (!(groups_[g].extras == group_extras(optimizer_, g))) set_group_extras(optimizer_, g, groups_[g].extras);
    }
    for (StagedState& staged : new_states_) {
      if (staged.state == nullptr) {
        optimizer_.state().erase(staged.key);
      } else {
        optimizer_.state()[staged.key] = std::move(staged.state);
      }
    }
    TorchGroups(optimizer_).remember_loaded();  // for schedulers, those there are and those still to be made
  }

  const LoadReport& report() const { return matching_.report; }

 private:
  void check_keep() const {
    for (const std::string& name : options_.keep) {
      const Hyperparameter* hyperparameter = row_.find(name);
      if (hyperparameter != nullptr && hyperparameter->set != nullptr) continue;
      std::vector<std::string_view> names;
      for (const Hyperparameter& known : row_.hyperparameters) {
        if (known.set != nullptr) names.push_back(known.name);
      }
      throw Error(Code::invalid_argument, fmt::format("keep: {} has no hyperparameter '{}'; it has {}", row_.name, name,
                                                      fmt::join(names, ", ")));
    }
  }

  bool keeps(std::string_view name) const {
    return options_.keep_hyperparameters ||
           std::find(options_.keep.begin(), options_.keep.end(), name) != options_.keep.end();
  }

  // ---- groups ----

  StagedGroup stage_group(std::size_t g) {
    StagedGroup staged{optimizer_.param_groups()[g].options().clone(), group_extras(optimizer_, g)};
    if (!matching_.groups[g]) return staged;
    const Value& group = matching_.file[*matching_.groups[g]].value;
    if (!options_.keep_hyperparameters) staged.extras = read_extras(group, staged.extras);
    std::vector<std::string_view> absent;
    for (const Hyperparameter& hyperparameter : row_.hyperparameters) {
      const std::optional<Value> value = group.find(Value(hyperparameter.name));
      if (hyperparameter.place == Hyperparameter::Place::fixed) {
        if (value) check_fixed(g, hyperparameter, *value);
      } else if (hyperparameter.place == Hyperparameter::Place::option) {
        if (!value) absent.push_back(hyperparameter.name);
        if (value && !keeps(hyperparameter.name)) set_option(g, hyperparameter, *value, *staged.options);
      }
    }
    if (!absent.empty()) report_absent(g, group, absent);
    return staged;
  }

  void set_option(std::size_t g, const Hyperparameter& hyperparameter, const Value& value, OptimizerOptions& options) {
    try {
      hyperparameter.set(options, value);
    } catch (const Error& error) {
      matching_.fatal.push_back({fmt::format("group {}: {}", g, hyperparameter.name), error.message()});
    }
  }

  void check_fixed(std::size_t g, const Hyperparameter& hyperparameter, const Value& value) {
    const bool expected = hyperparameter.initial.as_boolean();
    try {
      if (read_flag(value) == expected) return;
    } catch (const Error&) {
      // Neither true nor false: refused below.
    }
    ++lacking_;
    matching_.fatal.push_back(
        {fmt::format("group {}: {}", g, hyperparameter.name),
         fmt::format("not {} in the file; LibTorch's {} cannot do that{}", expected ? "True" : "False", row_.name,
                     hyperparameter.name == "decoupled_weight_decay" ? " (Adam and AdamW differ in this)" : "")});
  }

  void report_absent(std::size_t g, const Value& group, const std::vector<std::string_view>& absent) {
    const std::string_view other = looks_like(group);
    matching_.fatal.push_back(
        {fmt::format("group {}", g),
         fmt::format("the file has no {}: this is not the state of {}{}", fmt::join(absent, ", "), row_.name,
                     other.empty() ? "" : fmt::format(" but looks like that of {}", other))});
  }

  /// What LibTorch has no place for. Python-only flags are kept where they are not the default.
  Value read_extras(const Value& group, const Value& current) const {
    Value extras = Value::mapping(Kind::dict);
    for (const Entry& entry : group.items()) {
      if (entry.key == Value("params") || entry.key == Value("param_names")) continue;
      if (entry.key == Value("initial_lr") && keeps("lr")) continue;
      const Hyperparameter* hyperparameter = entry.key.is(Kind::string) ? row_.find(entry.key.as_string()) : nullptr;
      const bool is_extra = hyperparameter == nullptr || (hyperparameter->place == Hyperparameter::Place::harmless &&
                                                          !(hyperparameter->initial == entry.value));
      if (is_extra) extras.set(entry.key, number_of_scheduler(entry.key, group.at(entry.key)));
    }
    if (const auto initial_lr = current.find("initial_lr"); initial_lr && keeps("lr"))
      extras.set("initial_lr", *initial_lr);
    return extras;
  }

  // ---- states ----

  void stage_state(const Slot& slot) {
    const OptimizerOptions& options = *groups_[slot.group].options;
    std::unique_ptr<OptimizerParamState> state = read(slot, options, {&slot.param, 1});
    if (state == nullptr && row_.first_state != nullptr) {
      state = at_the_edge([&] { return row_.first_state(slot.param, options); });
    }
    new_states_.push_back({compat::state_key(slot.param), std::move(state)});
  }

  /// LBFGS: one state under the first parameter; its flat vectors follow the parameters' order.
  void stage_shared_state() {
    const auto& params = optimizer_.param_groups().front().params();
    if (params.empty() || !matching_.fatal.empty()) return;
    std::unique_ptr<OptimizerParamState> state;
    if (!matching_.in_file_order && !states_.empty()) {
      matching_.report.mismatched.push_back(
          {"state",
           fmt::format("{}'s vectors run over all parameters in the file's order, which is another", row_.name)});
    } else {
      state = read(matching_.slots.front(), *groups_.front().options, params);
    }
    new_states_.push_back({compat::state_key(params.front()), std::move(state)});
  }

  OptimizerParamState* live_state(const Slot& slot) const {
    const auto entry = optimizer_.state().find(compat::state_key(slot.param));
    return entry == optimizer_.state().end() ? nullptr : entry->second.get();
  }

  std::unique_ptr<OptimizerParamState> read(const Slot& slot, const OptimizerOptions& options,
                                            std::span<const at::Tensor> params) {
    const std::optional<Value> state = slot.id ? states_.find(*slot.id) : std::nullopt;
    if (!state) return nullptr;
    std::vector<std::string> problems;
    std::unique_ptr<OptimizerParamState> staged;
    if (state->is_mapping()) {
      staged = at_the_edge([&] {
        return read_state(row_, {*state, options, params, problems, live_state(slot), reader_});
      });
    } else {
      problems.push_back(fmt::format("its state is a {}, not a dict", to_string(state->kind())));
    }
    for (std::string& problem : problems) matching_.report.mismatched.push_back({slot.label, std::move(problem)});
    return staged;
  }

  /// States under an id that no group lists would be lost.
  void check_no_orphans() {
    std::vector<Entry> ids;
    for (const FileGroup& group : matching_.file) {
      for (const Value& id : group.ids) {
        if (id.is(Kind::integer) || id.is(Kind::string)) ids.push_back({id, Value()});
      }
    }
    const Value listed = Value::mapping(Kind::dict, std::move(ids));
    for (const Entry& entry : states_.items()) {
      if (listed.contains(entry.key)) continue;
      const std::string key = states_.at(entry.key).key_path();
      matching_.report.mismatched.push_back({key, "no group lists this id (an int and its text are two ids)"});
    }
  }

  // ---- the end ----

  void throw_if_it_does_not_fit() {
    LoadReport all = matching_.report;
    all.mismatched.insert(all.mismatched.begin(), matching_.fatal.begin(), matching_.fatal.end());
    if (all.complete() || (options_.partial && matching_.fatal.empty())) return;
    const bool only_lacking = lacking_ == matching_.fatal.size() && lacking_ > 0 && matching_.report.complete();
    value_.fail(only_lacking ? Code::unsupported : Code::mismatch,
                fmt::format("the state does not fit the optimizer ({}): {}{}{}", row_.name, all.to_string(),
                            matching_.hint, matching_.fatal.empty() ? "; .partial = true carries over what fits" : ""));
  }

  Optimizer& optimizer_;
  Value value_;
  OptimizerLoadOptions options_;
  LiveReader* reader_;  ///< only used before the change
  const OptimizerRow& row_;
  Value states_;
  Matching matching_;
  std::vector<StagedGroup> groups_;
  std::vector<StagedState> new_states_;
  std::size_t lacking_ = 0;  // entries of `fatal` about options that LibTorch lacks
};

}  // namespace

std::function<void()> prepare_load(Optimizer& optimizer, const Value& value, const NamedModules* modules,
                                   const OptimizerLoadOptions& options, LoadReport& report, LiveReader* reader) {
  const auto loader = std::make_shared<Loader>(optimizer, value, modules, options, reader);
  loader->stage();
  report = loader->report();
  return [loader] { loader->commit(); };
}

LoadReport load_state_dict(Optimizer& optimizer, const Value& value, const OptimizerLoadOptions& options) {
  LoadReport report;
  prepare_load(optimizer, value, nullptr, options, report)();
  return report;
}

LoadReport load_state_dict(Optimizer& optimizer, const Value& value, const NamedModules& modules,
                           const OptimizerLoadOptions& options) {
  LoadReport report;
  prepare_load(optimizer, value, &modules, options, report)();
  return report;
}

}  // namespace torchkeep
