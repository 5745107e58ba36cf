// SPDX-License-Identifier: BSD-3-Clause
// What the scheduler classes share: attributes in the order of Python's __dict__, loading, LRScheduler's stepping.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include <torchkeep/schedule/lr_scheduler.h>

#include "arithmetic.h"

namespace torchkeep::lr_scheduler::detail {

/// One part of OneCycleLR: the strings are keys of the parameter groups.
struct Phase {
  Number end_step;
  std::string start_lr, end_lr, start_momentum, end_momentum;
};

/// MultiStepLR's Counter: each milestone with how often it was listed, in the order of first mention.
using Milestones = std::vector<std::pair<Number, Number>>;

/// Where an attribute lives. A Value is one that no class here knows (an old file's `verbose`): kept and saved again.
using Slot = std::variant<bool*, std::int64_t*, Number*, std::optional<Number>*, std::string*, Numbers*, Milestones*,
                          std::vector<Phase>*, Value>;

enum class Role : unsigned char {
  argument,  ///< given to the constructor; must be in a state dict
  derived,   ///< follows from arguments, but not in the state dicts of every PyTorch version
  position,  ///< changes while training; must be in a state dict
  passing,   ///< changes while training; not in the state dicts of every PyTorch version
  dormant,   ///< a passing attribute that Python does not create before something happens
  unused,    ///< an argument that Python keeps only with another option
};

/// One entry of Python's __dict__.
struct Attribute {
  std::string name;
  Slot slot;
  Role role;
};

/// What loading a state dict would do. Nothing is changed before every part has been checked.
struct LoadPlan {
  bool keep_arguments = false;
  std::vector<std::string> problems;
  std::vector<ArgumentDifference> differences;
  std::vector<std::function<void()>> callables;  ///< loads of the user's own objects; first, for these may throw
  std::vector<std::function<void()>> commits;
};

/// Python's zip(a, b, strict=True): throws unless both have as many elements.
void check_zip(std::size_t first, std::size_t second);
/// Python's bisect.bisect_right, on lists that are not sorted too.
std::size_t bisect_right(const Numbers& list, const Number& x);
/// _format_param: the numbers of every group.
Numbers format_param(std::string_view name, const ParamGroups& groups, const PerGroup& param);

/// A scheduler behind the public handles: torch.optim.lr_scheduler's LRScheduler, without its __init__.
class Schedule {
 public:
  Schedule(std::string class_name, OptimizerRef optimizer)
      : class_name_(std::move(class_name)), groups_(optimizer.groups()) {}
  virtual ~Schedule() = default;
  Schedule(const Schedule&) = delete;
  Schedule& operator=(const Schedule&) = delete;

  const std::string& class_name() const noexcept { return class_name_; }
  ParamGroups& groups() const noexcept { return *groups_; }
  const std::shared_ptr<ParamGroups>& shared_groups() const noexcept { return groups_; }
  const Numbers& last_lr() const noexcept { return last_lr_; }
  std::int64_t last_epoch() const noexcept { return last_epoch_; }

  virtual void step();
  virtual void step_to(const Number& epoch);
  /// _initial_step: what a constructor ends with, and SequentialLR repeats for its first scheduler.
  virtual void initial_step();
  /// _update_lr(0): how SequentialLR starts a scheduler at its milestone.
  virtual void start_at_zero();
  /// SequentialLR.recursive_undo.
  virtual void undo() { --last_epoch_; }

  Value state_dict() const;
  void plan_load(const Value& state, const std::string& prefix, LoadPlan& plan);
  /// The end of loading, when the groups hold what they will hold.
  virtual void finish_load(const std::string& /*prefix*/, LoadPlan& /*plan*/) {}

 protected:
  // The key of `attribute` in Python's order is the order of these calls.
  void add(std::string name, Slot slot, Role role);
  /// Gives an attribute that Python creates at this moment its place at the end, unless it is there already.
  void create(std::string_view name);
  void set_role(std::string_view name, Role role) { find(name)->role = role; }

  virtual Numbers get_lr() = 0;
  virtual std::optional<Numbers> closed_form_lr() { return std::nullopt; }

  /// Keys of the state dict that this class saves and loads itself, after the attributes.
  virtual bool is_special(std::string_view /*key*/) const { return false; }
  virtual void save_special(Value& /*state*/) const {}
  virtual void plan_special(const Value& /*state*/, const std::string& /*prefix*/, LoadPlan& /*plan*/) {}

  Number group(std::size_t index, std::string_view key) const;
  Numbers group_values(std::string_view key) const;
  void write_lr(const Numbers& values);
  void write_momentum(std::size_t index, const Number& value);
  /// Whether the optimizer has betas (true) or momentum; throws PyTorch's complaint when it has neither.
  bool require_momentum() const;
  /// Checks that a state that cycles momentum does so with the one the optimizer has.
  void plan_momentum(const Value& state, LoadPlan& plan) const;

  std::string class_name_;
  std::shared_ptr<ParamGroups> groups_;
  Numbers base_lrs_;
  std::int64_t last_epoch_ = -1;
  std::int64_t step_count_ = 0;
  bool is_initial_ = false;
  bool get_lr_called_within_step_ = false;
  Numbers last_lr_;

 private:
  Attribute* find(std::string_view name);
  void plan_attribute(const Attribute& attribute, const Value& value, const std::string& prefix, LoadPlan& plan);
  void plan_missing(const Value& state, LoadPlan& plan) const;
  void plan_group_count(const Value& state, LoadPlan& plan) const;

  std::vector<Attribute> attributes_;
};

/// Arguments that Python keeps in the optimizer's groups (max_lr ...), where a loaded optimizer overwrites them.
class GroupArguments {
 public:
  void set(ParamGroups& groups, std::size_t group, std::string_view key, const Number& value);
  /// Writes the constructor's again, if they are to be kept.
  void apply(ParamGroups& groups) const;
  void finish_load(const ParamGroups& groups, const std::string& prefix, LoadPlan& plan);

 private:
  struct Argument {
    std::size_t group;
    std::string key;
    Number value;
  };
  std::vector<Argument> given_;
  bool keep_ = false;
};

/// A scheduler with LRScheduler's own __init__.
class LeafSchedule : public Schedule {
 protected:
  using Schedule::Schedule;
  /// LRScheduler.__init__, to be called when the class's own attributes stand.
  void initialize(std::int64_t last_epoch);
  /// f(lr) of every group's current learning rate.
  Numbers each_lr(const std::function<Number(const Number&)>& f) const;
  /// f(base_lr) of every base learning rate.
  Numbers each_base_lr(const std::function<Number(const Number&)>& f) const;
  Number epoch() const { return last_epoch_; }
};

}  // namespace torchkeep::lr_scheduler::detail
