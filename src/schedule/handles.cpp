// SPDX-License-Identifier: BSD-3-Clause
// The handles' part of stepping, saving and loading.
#include "handles.h"

#include <algorithm>
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <iterator>

namespace torchkeep::lr_scheduler {

using namespace detail;

Value Scheduler::state_dict() const {
  return schedule_->state_dict();
}

std::vector<ArgumentDifference> Scheduler::load_state_dict(const Value& state, const SchedulerLoadOptions& options) {
  PlainArithmetic arithmetic;
  LoadPlan plan;
  plan.keep_arguments = options.keep_arguments;
  schedule_->plan_load(state, "", plan);
  if (!plan.problems.empty()) {
    throw Error(Code::mismatch,
                fmt::format("this state cannot be loaded into a {}: {}", schedule_->class_name(),
                            fmt::join(plan.problems, "; ")),
                state.where());
  }
  for (const auto& load : plan.callables) load();
  for (const auto& commit : plan.commits) commit();
  put_back_loaded(schedule_->groups(), schedule_->last_lr());
  schedule_->finish_load("", plan);
  return plan.differences;
}

const std::string& Scheduler::class_name() const noexcept {
  return schedule_->class_name();
}

std::vector<double> Scheduler::get_last_lr() const {
  std::vector<double> values;
  std::transform(schedule_->last_lr().begin(), schedule_->last_lr().end(), std::back_inserter(values),
                 [](const Number& number) { return number.to_double(); });
  return values;
}

std::int64_t Scheduler::last_epoch() const noexcept {
  return schedule_->last_epoch();
}

void LRScheduler::step() {
  PlainArithmetic arithmetic;
  forget_loaded(schedule_->groups());
  schedule_->step();
}

void LRScheduler::step(std::int64_t epoch) {
  PlainArithmetic arithmetic;
  forget_loaded(schedule_->groups());
  schedule_->step_to(epoch);
}

void CosineAnnealingWarmRestarts::step_to(double epoch) {
  PlainArithmetic arithmetic;
  forget_loaded(schedule_->groups());
  schedule_->step_to(epoch);
}

}  // namespace torchkeep::lr_scheduler
