// SPDX-License-Identifier: BSD-3-Clause
// Loading a scheduler's state: what is refused, what is reported, and that nothing changes before all is checked.
#include <gtest/gtest.h>

#include <torchkeep/base/error.h>
#include <torchkeep/schedule/lr_scheduler.h>

#include "memory_groups.h"

namespace torchkeep::lr_scheduler {
namespace {

using test::MemoryGroups;

std::shared_ptr<ParamGroups> sgd(std::size_t groups = 1) {
  return std::make_shared<MemoryGroups>(MomentumKind::momentum,
                                        std::vector<Value>(groups, Value{{"lr", 0.1}, {"momentum", 0.9}}));
}

/// The complaint of loading `state`, and that it left the scheduler alone.
template <class S>
std::string refused(S scheduler, const Value& state) {
  const Value before = scheduler.state_dict();
  try {
    scheduler.load_state_dict(state);
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), Code::mismatch) << error.what();
    EXPECT_TRUE(scheduler.state_dict() == before);
    return error.what();
  }
  return "not refused";
}

Value without(Value state, const char* key) {
  state.erase(key);
  return state;
}

Value with(Value state, const char* key, Value value) {
  state.set(key, std::move(value));
  return state;
}

#define EXPECT_HAS(text, part) EXPECT_NE((text).find(part), std::string::npos) << (text)

TEST(LoadState, RefusesTheStateOfAnotherClass) {
  const Value cosine = CosineAnnealingLR(sgd(), {.T_max = 10}).state_dict();
  const std::string text = refused(StepLR(sgd(), {.step_size = 3}), cosine);
  EXPECT_HAS(text, "this state cannot be loaded into a StepLR");
  EXPECT_HAS(text, "'T_max' is of CosineAnnealingLR");
  EXPECT_HAS(text, "'step_size' is missing");
  EXPECT_HAS(text, "'gamma' is missing");
  EXPECT_HAS(refused(ExponentialLR(sgd(), {.gamma = 0.9}), StepLR(sgd(), {.step_size = 3}).state_dict()),
             "'step_size' is of StepLR");
  EXPECT_HAS(refused(ReduceLROnPlateau(sgd()), cosine), "'best' is missing");
  EXPECT_HAS(refused(ChainedScheduler({StepLR(sgd(), {.step_size = 3})}), cosine), "'base_lrs' is of");
}

TEST(LoadState, NamesAllMissingKeysAtOnce) {
  StepLR scheduler(sgd(), {.step_size = 3});
  const Value state = without(without(scheduler.state_dict(), "gamma"), "last_epoch");
  const std::string text = refused(scheduler, state);
  EXPECT_HAS(text, "'gamma' is missing");
  EXPECT_HAS(text, "'last_epoch' is missing");
  EXPECT_HAS(refused(LambdaLR(sgd(), {.lr_lambda = [](std::int64_t) { return 1; }}), Value::mapping(Kind::dict)),
             "KeyError: 'lr_lambdas'");
  CyclicLR cyclic(sgd(), {.base_lr = 0.1, .max_lr = 1});
  EXPECT_HAS(refused(cyclic, without(cyclic.state_dict(), "_scale_fn_custom")), "KeyError: '_scale_fn_custom'");
  ChainedScheduler chained({scheduler});
  EXPECT_HAS(refused(chained, without(chained.state_dict(), "_schedulers")), "KeyError: '_schedulers'");
}

TEST(LoadState, RefusesWrongKinds) {
  StepLR scheduler(sgd(), {.step_size = 3});
  const Value state = scheduler.state_dict();
  EXPECT_HAS(refused(scheduler, Value(3)), "a dict is expected");
  EXPECT_HAS(refused(scheduler, with(state, "gamma", "0.1")), "int or float");
  EXPECT_HAS(refused(scheduler, with(state, "last_epoch", 2.5)), "int");
  EXPECT_HAS(refused(scheduler, with(state, "base_lrs", 0.1)), "list");
  EXPECT_HAS(refused(scheduler, with(state, "_last_lr", List{"a"})), "int or float");
}

TEST(LoadState, RefusesATensorLearningRate) {
  StepLR scheduler(sgd(), {.step_size = 3});
  const Tensor zero = Tensor::of<double>({}, {0.1});
  EXPECT_HAS(refused(scheduler, with(scheduler.state_dict(), "base_lrs", List{zero})), "as a tensor");
}

TEST(LoadState, RefusesAnotherNumberOfGroups) {
  const Value two = StepLR(sgd(2), {.step_size = 3}).state_dict();
  EXPECT_HAS(refused(StepLR(sgd(3), {.step_size = 3}), two), "it is for 2 parameter groups, the optimizer has 3");
  const Value lists = ReduceLROnPlateau(sgd(2), {.min_lr = {0.1, 0.2}}).state_dict();
  EXPECT_HAS(refused(ReduceLROnPlateau(sgd(1)), lists), "2 parameter groups");
}

TEST(LoadState, AcceptsTheStateOfARunThatAddedAGroup) {
  const auto groups = std::make_shared<MemoryGroups>(MomentumKind::none, std::vector<Value>{{{"lr", 0.1}}});
  StepLR scheduler(std::shared_ptr<ParamGroups>(groups), {.step_size = 1});
  groups->add(Value{{"lr", 0.5}});
  scheduler.step();
  const Value state = scheduler.state_dict();
  ASSERT_EQ(state["base_lrs"].size(), 1U);
  ASSERT_EQ(state["_last_lr"].size(), 2U);
  StepLR resumed(sgd(2), {.step_size = 1});
  EXPECT_NO_THROW(resumed.load_state_dict(state));
}

TEST(LoadState, RefusesMilestonesThatBecameStrings) {
  MultiStepLR scheduler(sgd(), {.milestones = {3, 5}});
  const Value strings = with(scheduler.state_dict(), "milestones", Value{{"3", 1}, {"5", 1}});
  EXPECT_HAS(refused(scheduler, strings), "turns them into strings");
}

TEST(LoadState, NamesTheSchedulerInsideAComposite) {
  const auto groups = sgd();
  const auto make = [&] {
    return SequentialLR(groups,
                        {.schedulers = {LinearLR(groups), StepLR(groups, {.step_size = 3})}, .milestones = {5}});
  };
  Value state = make().state_dict();
  Value inner = state["_schedulers"][1];
  inner.erase("gamma");
  state.set("_schedulers", List{state["_schedulers"][0], inner});
  EXPECT_HAS(refused(make(), state), "_schedulers[1] (StepLR): 'gamma' is missing");
  state.set("_schedulers", List{inner});
  EXPECT_HAS(refused(make(), state), "must be a list of 2 state dicts");
  EXPECT_HAS(refused(make(), with(make().state_dict(), "_milestones", List{1, 2})),
             "'_milestones' must be a list of 1");
}

TEST(LoadState, RefusesModesPyTorchDoesNotKnow) {
  ReduceLROnPlateau plateau(sgd());
  EXPECT_HAS(refused(plateau, with(plateau.state_dict(), "mode", "mean")), "mode mean is unknown!");
  OneCycleLR one_cycle(sgd(), {.max_lr = 1, .total_steps = 9});
  EXPECT_HAS(refused(one_cycle, with(one_cycle.state_dict(), "_anneal_func_type", "exp")),
             "Unknown _anneal_func_type: exp");
  CyclicLR cyclic(sgd(), {.base_lr = 0.1, .max_lr = 1});
  EXPECT_HAS(refused(cyclic, with(cyclic.state_dict(), "mode", "square")), "mode 'square' needs the scale_fn");
}

TEST(LoadState, RefusesToCycleAMomentumTheOptimizerLacks) {
  CyclicLR cyclic(sgd(), {.base_lr = 0.1, .max_lr = 1});
  EXPECT_HAS(refused(cyclic, with(cyclic.state_dict(), "use_beta1", true)), "MemoryGroups does not have");
  const std::shared_ptr<ParamGroups> adagrad =
      std::make_shared<MemoryGroups>(MomentumKind::none, std::vector<Value>{{{"lr", 0.1}}});
  EXPECT_HAS(refused(CyclicLR(adagrad, {.base_lr = 0.1, .max_lr = 1, .cycle_momentum = false}), cyclic.state_dict()),
             "cycles");
}

TEST(LoadState, RefusesPhasesOfUnknownGroupKeys) {
  OneCycleLR scheduler(sgd(), {.max_lr = 1, .total_steps = 9});
  const Value phase{{"end_step", 3},
                    {"start_lr", "params"},
                    {"end_lr", "max_lr"},
                    {"start_momentum", "max_momentum"},
                    {"end_momentum", "base_momentum"}};
  EXPECT_HAS(refused(scheduler, with(scheduler.state_dict(), "_schedule_phases", List{phase})), "'params' is no key");
  EXPECT_HAS(refused(scheduler, with(scheduler.state_dict(), "_schedule_phases", List{})), "at least one phase");
}

TEST(LoadState, KeepsKeysOfOtherVersionsAndSavesThemAgain) {
  StepLR scheduler(sgd(), {.step_size = 3});
  Value old = without(without(scheduler.state_dict(), "_is_initial"), "_get_lr_called_within_step");
  old.set("verbose", false);
  scheduler.load_state_dict(old);
  const Value state = scheduler.state_dict();
  EXPECT_TRUE(state.contains("_is_initial"));
  EXPECT_EQ(state.items().back().key.as_string(), "verbose");
  EXPECT_FALSE(state["verbose"].as_boolean());
}

TEST(LoadState, TakesOverAttributesThatTheConstructorDidNotCreate) {
  CyclicLR source(sgd(), {.base_lr = 0.1, .max_lr = 1, .step_size_up = 4});
  CyclicLR target(sgd(), {.base_lr = 0.1, .max_lr = 1, .step_size_up = 4, .cycle_momentum = false});
  ASSERT_FALSE(target.state_dict().contains("max_momentums"));
  target.load_state_dict(source.state_dict());
  // Python's dict.update puts new keys at the end; _scale_fn_custom is always last.
  const Value state = target.state_dict();
  EXPECT_EQ(state.items().back().key.as_string(), "_scale_fn_custom");
  EXPECT_EQ((state.items().end() - 2)->key.as_string(), "max_momentums");
}

TEST(LoadState, LoadsTheSameDictTwice) {
  CyclicLR scheduler(sgd(), {.base_lr = 0.1, .max_lr = 1});
  const Value state = scheduler.state_dict();
  scheduler.load_state_dict(state);
  EXPECT_NO_THROW(scheduler.load_state_dict(state));
}

struct Counting {
  std::int64_t calls = 0;
  double operator()(std::int64_t) { return static_cast<double>(++calls); }
  Value state_dict() const { return Value{{"calls", calls}}; }
  void load_state_dict(const Value& state) { calls = state["calls"].to<std::int64_t>(); }
};

TEST(LoadState, RefusesToDropTheStateOfACallableObject) {
  const Value state = LambdaLR(sgd(), {.lr_lambda = Counting{}}).state_dict();
  ASSERT_EQ(state["lr_lambdas"][0]["calls"].to<int>(), 1);
  EXPECT_HAS(refused(LambdaLR(sgd(), {.lr_lambda = [](std::int64_t) { return 1.0; }}), state),
             "has no load_state_dict()");
  LambdaLR same(sgd(), {.lr_lambda = Counting{40}});
  same.load_state_dict(state);
  same.step();
  EXPECT_EQ(same.get_last_lr().front(), 0.1 * 2);
}

struct Choosy : Counting {
  void load_state_dict(const Value& state) { state["none of this name"]; }
};

TEST(LoadState, ACallableObjectThatRefusesItsStateLeavesTheSchedulerAsItWas) {
  LambdaLR trained(sgd(), {.lr_lambda = Counting{}});
  trained.step();
  LambdaLR scheduler(sgd(), {.lr_lambda = Choosy{}});
  const Value before = scheduler.state_dict();
  EXPECT_THROW(scheduler.load_state_dict(trained.state_dict()), Error);
  EXPECT_TRUE(scheduler.state_dict() == before);
}

TEST(LoadState, ReportsArgumentsThatDifferAndUsesTheStoredOnes) {
  StepLR saved(sgd(), {.step_size = 3, .gamma = 0.5});
  StepLR scheduler(sgd(), {.step_size = 3, .gamma = 0.25});
  const auto differences = scheduler.load_state_dict(saved.state_dict());
  ASSERT_EQ(differences.size(), 1U);
  EXPECT_EQ(differences[0].key, "gamma");
  EXPECT_EQ(differences[0].given, "0.25");
  EXPECT_EQ(differences[0].stored, "0.5");
  EXPECT_EQ(scheduler.state_dict()["gamma"].to<double>(), 0.5);
}

TEST(LoadState, KeepsTheGivenArgumentsOnRequest) {
  StepLR saved(sgd(), {.step_size = 3, .gamma = 0.5});
  saved.step();
  StepLR scheduler(sgd(), {.step_size = 2, .gamma = 0.25});
  EXPECT_EQ(scheduler.load_state_dict(saved.state_dict(), {.keep_arguments = true}).size(), 2U);
  EXPECT_EQ(scheduler.state_dict()["gamma"].to<double>(), 0.25);
  EXPECT_EQ(scheduler.last_epoch(), 1);
  scheduler.step();
  EXPECT_EQ(scheduler.get_last_lr().front(), 0.1 * 0.25);
}

TEST(LoadState, ReportsAndKeepsArgumentsInsideComposites) {
  const auto make = [](double gamma) {
    const auto groups = sgd();
    return ChainedScheduler({ExponentialLR(groups, {.gamma = gamma}), ConstantLR(groups)});
  };
  const Value state = make(0.5).state_dict();
  auto scheduler = make(0.9);
  const auto differences = scheduler.load_state_dict(state, {.keep_arguments = true});
  ASSERT_EQ(differences.size(), 1U);
  EXPECT_EQ(differences[0].key, "_schedulers[0].gamma");
  EXPECT_EQ(scheduler.state_dict()["_schedulers"][0]["gamma"].to<double>(), 0.9);
}

TEST(LoadState, KeepsArgumentsThatPythonPutsIntoTheGroups) {
  const auto saved_groups =
      std::make_shared<MemoryGroups>(MomentumKind::momentum, std::vector<Value>{{{"lr", 0.1}, {"momentum", 0.9}}});
  OneCycleLR saved(std::shared_ptr<ParamGroups>(saved_groups), {.max_lr = 1.0, .total_steps = 10});
  const Value state = saved.state_dict();

  for (const bool optimizer_first : {true, false}) {
    const auto groups =
        std::make_shared<MemoryGroups>(MomentumKind::momentum, std::vector<Value>{{{"lr", 0.1}, {"momentum", 0.9}}});
    OneCycleLR scheduler(std::shared_ptr<ParamGroups>(groups), {.max_lr = 2.0, .total_steps = 10});
    if (optimizer_first) groups->load(saved_groups->groups());
    const auto differences = scheduler.load_state_dict(state, {.keep_arguments = true});
    if (!optimizer_first) groups->load(saved_groups->groups());
    EXPECT_EQ(differences.size(), optimizer_first ? 3U : 0U);  // max_lr, initial_lr, min_lr
    if (optimizer_first) {
      EXPECT_EQ(differences[1].key, "param_groups[0].max_lr");
    }
    scheduler.step();
    scheduler.step();
    EXPECT_EQ(scheduler.get_last_lr().front(), 2.0);
  }
}

TEST(Scheduler, IsStateful) {
  static_assert(Stateful<StepLR> && Stateful<SequentialLR> && Stateful<ReduceLROnPlateau>);
  StepLR scheduler(sgd(), {.step_size = 3});
  const Value state = torchkeep::state_dict(scheduler);
  EXPECT_TRUE(torchkeep::load_state_dict(scheduler, state).empty());
  EXPECT_TRUE(torchkeep::load_state_dict(scheduler, state, {.keep_arguments = true}).empty());
}

template <class Options>
concept NeedsNothing = requires {
  Options{};
};

TEST(Scheduler, ArgumentsWithoutADefaultMustBeGiven) {
  static_assert(NeedsNothing<LinearLROptions> && NeedsNothing<ReduceLROnPlateauOptions>);
  static_assert(!NeedsNothing<StepLROptions> && !NeedsNothing<MultiStepLROptions> && !NeedsNothing<LambdaLROptions> &&
                !NeedsNothing<CyclicLROptions> && !NeedsNothing<SWALROptions>);
}

TEST(Scheduler, IsAHandle) {
  StepLR scheduler(sgd(), {.step_size = 1, .gamma = 0.5});
  LRScheduler same = scheduler;
  same.step();
  EXPECT_EQ(scheduler.last_epoch(), 1);
}

TEST(Scheduler, RefusesAnotherOptimizersParts) {
  const auto mine = sgd();
  try {
    SequentialLR(mine, {.schedulers = {LinearLR(sgd())}, .milestones = Numbers{}});
    FAIL();
  } catch (const Error& error) {
    EXPECT_HAS(
        std::string(error.what()),
        "SequentialLR expects all schedulers to belong to the same optimizer, but got scheduler LinearLR at index 0");
  }
}

template <class S, class E>
concept StepsTo = requires(S scheduler, E epoch) {
  scheduler.step(epoch);
};

TEST(Scheduler, OnlyWarmRestartsTakeAFractionOfAnEpoch) {
  static_assert(StepsTo<LRScheduler, int> && !StepsTo<LRScheduler, double> && !StepsTo<StepLR, float>);
  CosineAnnealingWarmRestarts scheduler(sgd(), {.T_0 = 2});
  scheduler.step(1);
  EXPECT_EQ(scheduler.state_dict()["T_cur"], Value(1));
  scheduler.step(1.5F);
  EXPECT_EQ(scheduler.state_dict()["T_cur"], Value(1.5));
}

TEST(Scheduler, CompositesHaveNoStepWithAnEpoch) {
  const auto groups = sgd();
  LRScheduler scheduler = SequentialLR(groups, {.schedulers = {LinearLR(groups)}, .milestones = Numbers{}});
  EXPECT_THROW(scheduler.step(3), Error);
}

}  // namespace
}  // namespace torchkeep::lr_scheduler
