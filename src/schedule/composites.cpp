// SPDX-License-Identifier: BSD-3-Clause
// The schedulers made of schedulers, with the quirks of PyTorch 2.13: SequentialLR and ChainedScheduler.
#include <fmt/format.h>

#include "handles.h"
#include "schedule.h"

namespace torchkeep::lr_scheduler {
namespace detail {
namespace {

class CompositeSchedule : public Schedule {
 public:
  void step_to(const Number& /*epoch*/) override {
    throw Error(Code::invalid_argument,
                fmt::format("{}.step() takes 1 positional argument but 2 were given", class_name_));
  }

  void undo() override {
    for (const auto& schedule : schedules_) schedule->undo();
  }

  void finish_load(const std::string& prefix, LoadPlan& plan) override {
    for (std::size_t i = 0; i < schedules_.size(); ++i) schedules_[i]->finish_load(part(prefix, i), plan);
  }

 protected:
  CompositeSchedule(std::string class_name, const OptimizerRef& optimizer, const std::vector<LRScheduler>& schedulers)
      : Schedule(std::move(class_name), optimizer) {
    for (std::size_t i = 0; i < schedulers.size(); ++i) {
      schedules_.push_back(SchedulerAccess::schedule(schedulers[i]));
      if (schedules_[i]->groups().identity() == groups_->identity()) continue;
      throw Error(
          Code::invalid_argument,
          fmt::format("{} expects all schedulers to belong to the same optimizer, but got scheduler {} at index {} "
                      "has {}, which is different from {}.",
                      class_name_, schedules_[i]->class_name(), i, schedules_[i]->groups().optimizer_name(),
                      groups_->optimizer_name()));
    }
  }

  static std::string part(const std::string& prefix, std::size_t index) {
    return fmt::format("{}_schedulers[{}].", prefix, index);
  }

  // A composite that starts at another one's milestone has no closed form, and Python's base class no get_lr().
  Numbers get_lr() override {
    throw Error(Code::unsupported,
                fmt::format("NotImplementedError: PyTorch cannot start a {} at a milestone of a SequentialLR; put its "
                            "schedulers into the outer SequentialLR",
                            class_name_));
  }

  bool is_special(std::string_view key) const override { return key == "_schedulers"; }

  void save_special(Value& state) const override {
    Value list = Value::sequence(Kind::list, {});
    for (const auto& schedule : schedules_) list.append(schedule->state_dict());
    state.set("_schedulers", list);
  }

  void plan_special(const Value& state, const std::string& prefix, LoadPlan& plan) override {
    const auto list = state.find("_schedulers");
    if (!list) return plan.problems.push_back("KeyError: '_schedulers' is missing");
    if (!list->is(Kind::list) || list->size() != schedules_.size()) {
      return plan.problems.push_back(
          fmt::format("'_schedulers' must be a list of {} state dicts, as many as schedulers", schedules_.size()));
    }
    for (std::size_t i = 0; i < schedules_.size(); ++i) {
      const std::size_t before = plan.problems.size();
      schedules_[i]->plan_load(list->elements()[i], part(prefix, i), plan);
      for (std::size_t p = before; p < plan.problems.size(); ++p) {
        plan.problems[p] = fmt::format("_schedulers[{}] ({}): {}", i, schedules_[i]->class_name(), plan.problems[p]);
      }
    }
  }

  std::vector<std::shared_ptr<Schedule>> schedules_;
};

class SequentialSchedule final : public CompositeSchedule {
 public:
  SequentialSchedule(const OptimizerRef& optimizer, const SequentialLROptions& options)
      : CompositeSchedule("SequentialLR", optimizer, options.schedulers), milestones_(options.milestones.values()) {
    if (schedules_.empty()) {
      throw Error(Code::invalid_argument, "SequentialLR expects at least one scheduler, but got no scheduler.");
    }
    if (milestones_.size() + 1 != schedules_.size()) {
      throw Error(
          Code::invalid_argument,
          fmt::format("Sequential Schedulers expects number of schedulers provided to be one more than the number of "
                      "milestone points, but got number of schedulers {} and the number of milestones to be equal "
                      "to {}",
                      schedules_.size(), milestones_.size()));
    }
    last_epoch_ = (Number(options.last_epoch) + 1).integer();
    add("_milestones", &milestones_, Role::argument);
    add("last_epoch", &last_epoch_, Role::position);
    add("_last_lr", &last_lr_, Role::position);
    add("_step_count", &step_count_, Role::dormant);
    add("_is_initial", &is_initial_, Role::dormant);

    for (std::size_t i = 0; i < groups_->size(); ++i) groups_->set(i, "lr", group(i, "initial_lr"));
    undo();
    Schedule& first = *schedules_[bisect_right(milestones_, 0)];
    first.initial_step();
    last_lr_ = first.last_lr();
  }

  void step() override {
    ++last_epoch_;
    const std::size_t index = bisect_right(milestones_, last_epoch_);
    Schedule& schedule = *schedules_[index];
    if (index > 0 && equals(milestones_[index - 1], last_epoch_))
      schedule.start_at_zero();
    else
      schedule.step();
    last_lr_ = schedule.last_lr();
  }

 private:
  void plan_special(const Value& state, const std::string& prefix, LoadPlan& plan) override {
    CompositeSchedule::plan_special(state, prefix, plan);
    const auto milestones = state.find("_milestones");
    if (milestones && milestones->is(Kind::list) && milestones->size() != milestones_.size()) {
      plan.problems.push_back(fmt::format("'_milestones' must be a list of {}", milestones_.size()));
    }
  }

  Numbers milestones_;
};

class ChainedSchedule final : public CompositeSchedule {
 public:
  ChainedSchedule(const OptimizerRef& optimizer, const std::vector<LRScheduler>& schedulers)
      : CompositeSchedule("ChainedScheduler", optimizer, schedulers) {
    last_lr_ = group_values("lr");
    add("_last_lr", &last_lr_, Role::position);
    add("_step_count", &step_count_, Role::dormant);
    add("_is_initial", &is_initial_, Role::dormant);
  }

  void step() override {
    for (const auto& schedule : schedules_) schedule->step();
    last_lr_ = group_values("lr");
  }
};

OptimizerRef optimizer_of(const std::vector<LRScheduler>& schedulers, const std::optional<OptimizerRef>& optimizer) {
  if (schedulers.empty()) {
    throw Error(Code::invalid_argument,
                "ChainedScheduler expects at least one scheduler to be chained, but got no scheduler.");
  }
  return optimizer ? *optimizer : OptimizerRef(SchedulerAccess::schedule(schedulers.front())->shared_groups());
}

}  // namespace
}  // namespace detail

using namespace detail;

SequentialLR::SequentialLR(OptimizerRef optimizer, SequentialLROptions options)
    : LRScheduler(construct<SequentialSchedule>(optimizer, options)) {}

ChainedScheduler::ChainedScheduler(std::vector<LRScheduler> schedulers, std::optional<OptimizerRef> optimizer)
    : LRScheduler(construct<ChainedSchedule>(optimizer_of(schedulers, optimizer), schedulers)) {}

}  // namespace torchkeep::lr_scheduler
