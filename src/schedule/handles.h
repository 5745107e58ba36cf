// SPDX-License-Identifier: BSD-3-Clause
// Between the public handles and the schedules behind them.
#pragma once

#include <memory>

#include "schedule.h"

namespace torchkeep::lr_scheduler {

/// Lets SequentialLR and ChainedScheduler reach into the handles they are given.
struct SchedulerAccess {
  static const std::shared_ptr<detail::Schedule>& schedule(const Scheduler& handle) { return handle.schedule_; }
};

namespace detail {

/// Makes a schedule as a constructor of Python's does, keeping the books of restoring (see restore.cpp).
class Construction {
 public:
  explicit Construction(ParamGroups& groups);
  void finish();

 private:
  PlainArithmetic arithmetic_;
  ParamGroups& groups_;
};

template <class S, class... Arguments>
std::shared_ptr<Schedule> construct(const OptimizerRef& optimizer, const Arguments&... arguments) {
  if (!optimizer.groups()) throw Error(Code::invalid_argument, "NoneType is not an Optimizer");
  Construction construction(*optimizer.groups());
  auto schedule = std::make_shared<S>(optimizer, arguments...);
  construction.finish();
  return schedule;
}

/// To be called when a scheduler steps: from here on what was loaded into the groups is history.
void forget_loaded(ParamGroups& groups);
/// To be called when a scheduler's state was loaded; undoes what constructors wrote since the optimizer's state came.
void put_back_loaded(ParamGroups& groups, const Numbers& last_lr);

}  // namespace detail
}  // namespace torchkeep::lr_scheduler
