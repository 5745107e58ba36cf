// SPDX-License-Identifier: BSD-3-Clause
// The entries of Python's param_groups that LibTorch's options have no place for: initial_lr, max_lr, swa_lr ...
#pragma once

#include <cstddef>
#include <memory>
#include <optional>
#include <string_view>
#include <utility>
#include <vector>

#include <torch/optim/optimizer.h>

#include <torchkeep/schedule/groups.h>
#include <torchkeep/state/value.h>

namespace torchkeep {

/// Python's optimizer.param_groups[group][key]: a LibTorch option ("lr", "betas", "momentum" ...) as Python writes it,
/// or an extra. Nothing when there is neither. Throws Error (invalid_argument) when there is no such group.
std::optional<Value> group_value(const torch::optim::Optimizer& optimizer, std::size_t group, std::string_view key);

/// Python's optimizer.param_groups[group][key] = value. A LibTorch option is set (throws Error (mismatch) for a value
/// of the wrong type); everything else becomes an extra.
void set_group_value(torch::optim::Optimizer& optimizer, std::size_t group, std::string_view key, const Value& value);

/// The extras of a group, a dict (empty when there are none). state_dict(optimizer) writes them into the group after
/// Python's own keys, and load_state_dict(optimizer, ...) replaces them by the file's.
Value group_extras(const torch::optim::Optimizer& optimizer, std::size_t group);

/// Replaces the extras of a group. Throws Error: invalid_argument (no such group), mismatch (not a dict), unsupported
/// (an optimizer class of your own: see keep_group_extras).
///
/// The extras belong to the optimizer: they move with it and end with it. (They live in the object behind
/// Optimizer::defaults(), which is exchanged the first time one is set or a state is loaded; group options stay where
/// they are.) They go by the group's position: erasing a group from param_groups() gives its extras to the next one.
void set_group_extras(torch::optim::Optimizer& optimizer, std::size_t group, Value extras);

namespace detail {

/// Where the extras are, and what the schedulers remember: mixed into the optimizer's default options.
struct GroupExtras {
  std::vector<Value> groups;
  std::vector<lr_scheduler::GroupMemory> memories;
  virtual ~GroupExtras() = default;
};

/// clone() of such an object, which is how LibTorch makes a new group's options, gives plain Options.
template <class Options>
struct OptionsWithExtras final : Options, GroupExtras {
  explicit OptionsWithExtras(const Options& options) : Options(options) {}
};

/// Where this optimizer's extras are; makes the place. Throws Error (unsupported), see set_group_extras.
GroupExtras& make_group_extras(torch::optim::Optimizer& optimizer);
/// Exchanges Optimizer::defaults().
void replace_defaults(torch::optim::Optimizer& optimizer, std::unique_ptr<torch::optim::OptimizerOptions> defaults);
[[noreturn]] void throw_wrong_options();

}  // namespace detail

/// Makes room for extras in an optimizer of your own class whose default options are of type Options (a
/// torch::optim::OptimizerCloneableOptions). LibTorch's six optimizers need no such call. References to
/// optimizer.defaults() taken earlier become invalid. Throws Error (invalid_argument) for another type of options.
template <class Options>
void keep_group_extras(torch::optim::Optimizer& optimizer) {
  if (dynamic_cast<detail::GroupExtras*>(&optimizer.defaults()) != nullptr) return;
  const auto* defaults = dynamic_cast<const Options*>(&optimizer.defaults());
  if (defaults == nullptr) detail::throw_wrong_options();
  detail::replace_defaults(optimizer, std::make_unique<detail::OptionsWithExtras<Options>>(*defaults));
}

}  // namespace torchkeep
