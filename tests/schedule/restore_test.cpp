// SPDX-License-Identifier: BSD-3-Clause
// Restoring is order-safe: optimizer and scheduler may be made and loaded in any order.
#include <algorithm>
#include <functional>
#include <gtest/gtest.h>
#include <optional>
#include <variant>

#include <torchkeep/schedule/lr_scheduler.h>

#include "memory_groups.h"

namespace torchkeep::lr_scheduler {
namespace {

using test::MemoryGroups;
using Any = std::variant<LRScheduler, ReduceLROnPlateau>;
using Make = std::function<Any(const OptimizerRef&)>;

std::shared_ptr<MemoryGroups> fresh() {
  return std::make_shared<MemoryGroups>(
      MomentumKind::betas,
      std::vector<Value>{{{"lr", 0.1}, {"betas", Tuple{0.9, 0.999}}}, {{"lr", 0.02}, {"betas", Tuple{0.8, 0.9}}}});
}

OptimizerRef ref(const std::shared_ptr<MemoryGroups>& groups) {
  return std::shared_ptr<ParamGroups>(groups);
}

Scheduler& base(Any& any) {
  return std::visit([](auto& scheduler) -> Scheduler& { return scheduler; }, any);
}

void step(Any& any, int i) {
  if (auto* plateau = std::get_if<ReduceLROnPlateau>(&any))
    plateau->step(1.0 + 0.1 * i);
  else
    std::get<LRScheduler>(any).step();
}

struct Named {
  const char* name;
  Make make;
};

const std::vector<Named>& schedulers() {
  static const std::vector<Named> all = {
      {"LambdaLR",
       [](const OptimizerRef& o) {
         return LambdaLR(o, {.lr_lambda = [](std::int64_t e) { return 1.0 / static_cast<double>(1 + e); }});
       }},
      {"MultiplicativeLR",
       [](const OptimizerRef& o) { return MultiplicativeLR(o, {.lr_lambda = [](std::int64_t) { return 0.9; }}); }},
      {"StepLR", [](const OptimizerRef& o) { return StepLR(o, {.step_size = 2}); }},
      {"MultiStepLR",
       [](const OptimizerRef& o) {
         return MultiStepLR(o, {.milestones = {1, 4}});
       }},
      {"ConstantLR", [](const OptimizerRef& o) { return ConstantLR(o); }},
      {"LinearLR", [](const OptimizerRef& o) { return LinearLR(o, {.total_iters = 6}); }},
      {"ExponentialLR", [](const OptimizerRef& o) { return ExponentialLR(o, {.gamma = 0.9}); }},
      {"PolynomialLR", [](const OptimizerRef& o) { return PolynomialLR(o, {.total_iters = 20, .power = 1.5}); }},
      {"CosineAnnealingLR", [](const OptimizerRef& o) { return CosineAnnealingLR(o, {.T_max = 7, .eta_min = 0.001}); }},
      {"CosineAnnealingWarmRestarts",
       [](const OptimizerRef& o) { return CosineAnnealingWarmRestarts(o, {.T_0 = 3, .T_mult = 2}); }},
      {"CyclicLR",
       [](const OptimizerRef& o) { return CyclicLR(o, {.base_lr = 0.01, .max_lr = 0.1, .step_size_up = 3}); }},
      {"OneCycleLR", [](const OptimizerRef& o) { return OneCycleLR(o, {.max_lr = 0.3, .total_steps = 50}); }},
      {"SWALR", [](const OptimizerRef& o) { return SWALR(o, {.swa_lr = 0.05}); }},
      {"ReduceLROnPlateau", [](const OptimizerRef& o) { return ReduceLROnPlateau(o, {.patience = 1}); }},
      {"SequentialLR",
       [](const OptimizerRef& o) {
         return SequentialLR(o, {.schedulers = {LinearLR(o, {.start_factor = 0.1}), ExponentialLR(o, {.gamma = 0.9})},
                                 .milestones = {3}});
       }},
      {"ChainedScheduler",
       [](const OptimizerRef& o) {
         return ChainedScheduler({ConstantLR(o), ExponentialLR(o, {.gamma = 0.9})});
       }},
  };
  return all;
}

/// Everything a resume must give back.
struct Snapshot {
  std::vector<Value> groups;
  Value state;
  bool operator==(const Snapshot&) const = default;
};

Snapshot snapshot(const MemoryGroups& groups, Any& scheduler) {
  return {groups.groups(), base(scheduler).state_dict()};
}

enum class Event { make_scheduler, load_optimizer, load_scheduler };

/// All orders in which the scheduler is made before it is loaded.
std::vector<std::vector<Event>> orders() {
  std::vector<Event> events = {Event::make_scheduler, Event::load_optimizer, Event::load_scheduler};
  std::vector<std::vector<Event>> all;
  do {
    if (std::find(events.begin(), events.end(), Event::make_scheduler) <
        std::find(events.begin(), events.end(), Event::load_scheduler)) {
      all.push_back(events);
    }
  } while (std::next_permutation(events.begin(), events.end()));
  return all;
}

TEST(Restore, EveryOrderEndsInTheUninterruptedState) {
  ASSERT_EQ(orders().size(), 3U);
  for (const auto& [name, make] : schedulers()) {
    for (const int cut : {0, 1, 2, 3, 4, 7}) {
      const auto groups = fresh();
      Any scheduler = make(ref(groups));
      for (int i = 0; i < cut; ++i) step(scheduler, i);
      const Snapshot saved = snapshot(*groups, scheduler);
      step(scheduler, cut);
      const Snapshot next = snapshot(*groups, scheduler);

      for (const auto& order : orders()) {
        const auto resumed_groups = fresh();
        std::optional<Any> resumed;
        for (const Event event : order) {
          if (event == Event::make_scheduler) resumed = make(ref(resumed_groups));
          if (event == Event::load_optimizer) resumed_groups->load(saved.groups);
          if (event == Event::load_scheduler) base(*resumed).load_state_dict(saved.state);
        }
        EXPECT_TRUE(snapshot(*resumed_groups, *resumed) == saved) << name << " cut at " << cut;
        step(*resumed, cut);
        EXPECT_TRUE(snapshot(*resumed_groups, *resumed) == next) << name << " one step after " << cut;
      }
    }
  }
}

TEST(Restore, EveryOrderOfTwoSchedulersOnOneOptimizerEndsInTheSameState) {
  const auto make_a = [](const OptimizerRef& o) { return LinearLR(o, {.start_factor = 0.1, .total_iters = 4}); };
  const auto make_b = [](const OptimizerRef& o) { return ExponentialLR(o, {.gamma = 0.9}); };
  const auto groups = fresh();
  LinearLR a = make_a(ref(groups));
  ExponentialLR b = make_b(ref(groups));
  for (int i = 0; i < 3; ++i) {
    a.step();
    b.step();
  }
  const std::vector<Value> saved = groups->groups();
  const Value state_a = a.state_dict();
  const Value state_b = b.state_dict();

  std::vector<int> events = {0, 1, 2, 3, 4};  // make a, make b, load the optimizer, load a, load b
  int tried = 0;
  do {
    const auto at = [&](int event) { return std::find(events.begin(), events.end(), event); };
    if (at(0) > at(3) || at(1) > at(4)) continue;
    ++tried;
    const auto resumed = fresh();
    std::optional<LinearLR> new_a;
    std::optional<ExponentialLR> new_b;
    for (const int event : events) {
      if (event == 0) new_a = make_a(ref(resumed));
      if (event == 1) new_b = make_b(ref(resumed));
      if (event == 2) resumed->load(saved);
      if (event == 3) new_a->load_state_dict(state_a);
      if (event == 4) new_b->load_state_dict(state_b);
    }
    EXPECT_TRUE(resumed->groups() == saved) << "order " << testing::PrintToString(events);
    EXPECT_TRUE(new_a->state_dict() == state_a);
    EXPECT_TRUE(new_b->state_dict() == state_b);
  } while (std::next_permutation(events.begin(), events.end()));
  EXPECT_EQ(tried, 30);
}

TEST(Restore, WithoutTheOptimizersStateTheLearningRateIsTheStoredOne) {
  const auto groups = fresh();
  ExponentialLR scheduler(ref(groups), {.gamma = 0.5});
  scheduler.step();
  scheduler.step();
  const auto other = fresh();
  ExponentialLR resumed(ref(other), {.gamma = 0.5});
  resumed.load_state_dict(scheduler.state_dict());
  EXPECT_EQ(other->get(0, "lr"), groups->get(0, "lr"));
  resumed.step();
  scheduler.step();
  EXPECT_EQ(other->get(1, "lr"), groups->get(1, "lr"));
}

TEST(Restore, LeavesALearningRateAloneThatTheProgramSet) {
  const auto groups = fresh();
  ExponentialLR scheduler(ref(groups), {.gamma = 0.5});
  scheduler.step();
  const Value state = scheduler.state_dict();
  for (const bool load_optimizer : {true, false}) {
    const auto other = fresh();
    if (load_optimizer) other->load(groups->groups());
    ExponentialLR resumed(ref(other), {.gamma = 0.5});
    other->set(0, "lr", 0.7);
    resumed.load_state_dict(state);
    EXPECT_EQ(other->get(0, "lr"), Number(0.7));
  }
}

TEST(Restore, ALearningRateSetBetweenTwoConstructorsIsNotTakenForTheLoadedOne) {
  const auto groups = fresh();
  groups->load({{{"lr", 0.05}, {"betas", Tuple{0.9, 0.999}}}, {{"lr", 0.05}, {"betas", Tuple{0.9, 0.999}}}});
  ConstantLR first(ref(groups));
  groups->set(0, "lr", 0.7);
  ExponentialLR second(ref(groups), {.gamma = 0.5});
  second.load_state_dict(second.state_dict());
  EXPECT_EQ(groups->get(0, "lr"), Number(0.7));
  EXPECT_EQ(groups->get(1, "lr"), Number(0.05));
}

TEST(Restore, ASchedulerLoadedInMidTrainingLeavesTheLearningRateAlone) {
  const auto groups = fresh();
  ExponentialLR first(ref(groups), {.gamma = 0.5});
  first.step();
  ExponentialLR second(ref(groups), {.gamma = 0.9});
  const Number before = *groups->get(0, "lr");
  Value state = second.state_dict();
  state.set("_last_lr", List{9.0, 9.0});
  second.load_state_dict(state);
  EXPECT_EQ(groups->get(0, "lr"), before);
}

}  // namespace
}  // namespace torchkeep::lr_scheduler
