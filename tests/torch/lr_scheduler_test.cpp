// SPDX-License-Identifier: BSD-3-Clause
// The schedulers on LibTorch's optimizers: which options they move, which keys they add, and restoring in every order.
#include <algorithm>
#include <functional>
#include <gtest/gtest.h>
#include <optional>

#include <torch/torch.h>

#include <torchkeep/torch.h>

#include "training.h"

namespace torchkeep {
namespace {

using namespace lr_scheduler;
using namespace torch::optim;

std::vector<std::string> keys(const Value& dict) {
  std::vector<std::string> names;
  for (const Entry& entry : dict.items()) names.push_back(entry.key.as_string());
  return names;
}

std::vector<at::Tensor> one_parameter() {
  return {torch::zeros({2}, torch::requires_grad())};
}

TEST(TorchSchedulers, WriteInitialLrIntoTheGroupsAsPythonDoes) {
  SGD optimizer(one_parameter(), SGDOptions(0.1));
  StepLR scheduler(optimizer, {.step_size = 1, .gamma = 0.5});
  scheduler.step();
  const Value group = state_dict(optimizer)["param_groups"][0];
  EXPECT_EQ(group["lr"].to<double>(), 0.05);
  EXPECT_EQ(group["initial_lr"].to<double>(), 0.1);
  EXPECT_EQ(keys(group),
            (std::vector<std::string>{"lr", "momentum", "dampening", "weight_decay", "nesterov", "maximize", "foreach",
                                      "differentiable", "fused", "initial_lr", "params"}));
}

TEST(TorchSchedulers, CycleBetasOfAdamAndMomentumOfSgd) {
  Adam adam(one_parameter(), AdamOptions(0.1).betas({0.9, 0.97}));
  CyclicLR on_adam(adam,
                   {.base_lr = 0.01, .max_lr = 0.1, .step_size_up = 2, .base_momentum = 0.75, .max_momentum = 0.85});
  on_adam.step();
  on_adam.step();
  EXPECT_EQ(static_cast<AdamOptions&>(adam.param_groups()[0].options()).betas(), std::make_tuple(0.75, 0.97));

  RMSprop rmsprop(one_parameter(), RMSpropOptions(0.1));
  OneCycleLR on_rmsprop(rmsprop, {.max_lr = 0.1, .total_steps = 10});
  EXPECT_EQ(static_cast<RMSpropOptions&>(rmsprop.param_groups()[0].options()).momentum(), 0.95);

  Adagrad adagrad(one_parameter());
  EXPECT_THROW(CyclicLR(adagrad, {.base_lr = 0.01, .max_lr = 0.1}), Error);
  LBFGS lbfgs(one_parameter());
  EXPECT_THROW(OneCycleLR(lbfgs, {.max_lr = 0.1, .total_steps = 5}), Error);
  EXPECT_NO_THROW(ExponentialLR(lbfgs, {.gamma = 0.9}).step());
}

TEST(TorchSchedulers, TheLearningRateIsTheOneTheOptimizerSteps) {
  at::Tensor parameter = torch::ones({1}, torch::TensorOptions().dtype(torch::kFloat64).requires_grad(true));
  SGD optimizer({parameter}, SGDOptions(0.5));
  ConstantLR scheduler(optimizer, {.factor = 0.5, .total_iters = 1});
  parameter.mutable_grad() = torch::ones({1}, torch::kFloat64);
  optimizer.step();
  EXPECT_EQ(parameter.item<double>(), 0.75);
  scheduler.step();
  optimizer.step();
  EXPECT_EQ(parameter.item<double>(), 0.25);
}

TEST(TorchSchedulers, ViewsOfOneOptimizerAreTheSame) {
  SGD optimizer(one_parameter(), SGDOptions(0.1));
  SGD other(one_parameter(), SGDOptions(0.1));
  EXPECT_NO_THROW(SequentialLR(
      optimizer, {.schedulers = {LinearLR(optimizer), ExponentialLR(optimizer, {.gamma = 0.9})}, .milestones = {5}}));
  EXPECT_THROW(SequentialLR(optimizer, {.schedulers = {LinearLR(other)}, .milestones = Numbers{}}), Error);
}

TEST(TorchSchedulers, DriveAGroupThatWasAddedLater) {
  SGD optimizer(one_parameter(), SGDOptions(0.1));
  ExponentialLR scheduler(optimizer, {.gamma = 0.5});
  optimizer.add_param_group({one_parameter(), std::make_unique<SGDOptions>(0.4)});
  scheduler.step();
  EXPECT_EQ(scheduler.get_last_lr(), (std::vector<double>{0.05, 0.2}));
}

struct OwnOptions : OptimizerCloneableOptions<OwnOptions> {
  double rate = 0.5;
  double get_lr() const override { return rate; }
  void set_lr(const double lr) override { rate = lr; }
};

struct Own : Optimizer {
  explicit Own(std::vector<at::Tensor> params) : Optimizer(std::move(params), std::make_unique<OwnOptions>()) {}
  at::Tensor step(LossClosure) override { return {}; }
};

TEST(TorchSchedulers, DriveAnOptimizerOfYourOwn) {
  Own optimizer(one_parameter());
  EXPECT_THROW(ExponentialLR(optimizer, {.gamma = 0.5}), Error);
  keep_group_extras<OwnOptions>(optimizer);
  ExponentialLR scheduler(optimizer, {.gamma = 0.5});
  scheduler.step();
  EXPECT_EQ(optimizer.param_groups()[0].options().get_lr(), 0.25);
}

// ---- restoring ----

struct Training {
  explicit Training(int seed) : net(make_net(seed)), adam(net->parameters(), AdamOptions(0.1).betas({0.9, 0.97})) {}
  SmallNet net;
  Adam adam;
};

struct Case {
  const char* name;
  std::function<LRScheduler(Optimizer&)> make;
};

const std::vector<Case>& cases() {
  static const std::vector<Case> all = {
      {"ExponentialLR", [](Optimizer& o) { return ExponentialLR(o, {.gamma = 0.9}); }},
      {"CyclicLR", [](Optimizer& o) { return CyclicLR(o, {.base_lr = 0.01, .max_lr = 0.1, .step_size_up = 3}); }},
      {"OneCycleLR", [](Optimizer& o) { return OneCycleLR(o, {.max_lr = 0.3, .total_steps = 50}); }},
      {"SWALR", [](Optimizer& o) { return SWALR(o, {.swa_lr = 0.05}); }},
      {"warm-up and cosine",
       [](Optimizer& o) {
         return SequentialLR(o, {.schedulers = {LinearLR(o, {.start_factor = 0.1, .total_iters = 3}),
                                                CosineAnnealingLR(o, {.T_max = 20, .eta_min = 1e-4})},
                                 .milestones = {3}});
       }},
      {"chained",
       [](Optimizer& o) {
         return ChainedScheduler({ConstantLR(o), ExponentialLR(o, {.gamma = 0.9})});
       }},
  };
  return all;
}

TEST(TorchRestore, EveryOrderEndsInTheUninterruptedState) {
  for (const auto& [name, make] : cases()) {
    for (const int cut : {0, 1, 3, 5}) {
      Training first(1);
      LRScheduler scheduler = make(first.adam);
      for (int i = 0; i < cut; ++i) {
        train(first.net, first.adam, 1, i);
        scheduler.step();
      }
      const Value optimizer_state = state_dict(first.adam, *first.net).clone();
      const Value scheduler_state = state_dict(scheduler);
      scheduler.step();
      const Value next = state_dict(first.adam, *first.net)["param_groups"];

      std::vector<int> order = {0, 1, 2};  // make the scheduler, load the optimizer, load the scheduler
      int tried = 0;
      do {
        if (std::find(order.begin(), order.end(), 0) > std::find(order.begin(), order.end(), 2)) continue;
        ++tried;
        Training second(2);
        std::optional<LRScheduler> resumed;
        for (const int event : order) {
          if (event == 0) resumed = make(second.adam);
          if (event == 1) load_state_dict(second.adam, optimizer_state, *second.net);
          if (event == 2) load_state_dict(*resumed, scheduler_state);
        }
        EXPECT_TRUE(state_dict(second.adam, *second.net) == optimizer_state) << name << " cut at " << cut;
        EXPECT_TRUE(state_dict(*resumed) == scheduler_state) << name << " cut at " << cut;
        resumed->step();
        EXPECT_TRUE(state_dict(second.adam, *second.net)["param_groups"] == next) << name << " one step after " << cut;
      } while (std::next_permutation(order.begin(), order.end()));
      EXPECT_EQ(tried, 3);
    }
  }
}

/// The learning rate after loading both states, the scheduler made before or after the optimizer is loaded.
template <class S, class... Arguments>
double resumed_lr(bool scheduler_first, const Value& optimizer_state, const Value& scheduler_state,
                  const OptimizerLoadOptions& options, const Arguments&... arguments) {
  Training training(2);
  std::optional<S> scheduler;
  if (scheduler_first) scheduler.emplace(training.adam, arguments...);
  load_state_dict(training.adam, optimizer_state, options);
  if (!scheduler_first) scheduler.emplace(training.adam, arguments...);
  load_state_dict(*scheduler, scheduler_state);
  return training.adam.param_groups()[0].options().get_lr();
}

TEST(TorchRestore, ALearningRateSetByHandBeforeTheSaveComesBackInEveryOrder) {
  Training first(1);
  ReduceLROnPlateau scheduler(first.adam);  // which leaves no initial_lr in the group
  scheduler.step(1.0);
  set_group_value(first.adam, 0, "lr", 0.7);
  for (const bool scheduler_first : {true, false}) {
    EXPECT_EQ(resumed_lr<ReduceLROnPlateau>(scheduler_first, state_dict(first.adam), state_dict(scheduler), {}), 0.7)
        << scheduler_first;
  }
}

TEST(TorchRestore, AKeptLearningRateStaysInEveryOrder) {
  Training first(1);
  set_group_value(first.adam, 0, "lr", 0.4);
  ExponentialLR scheduler(first.adam, {.gamma = 0.5});
  scheduler.step();
  for (const bool scheduler_first : {true, false}) {
    EXPECT_EQ(resumed_lr<ExponentialLR>(scheduler_first, state_dict(first.adam), state_dict(scheduler),
                                        {.keep = {"lr"}}, ExponentialLROptions{.gamma = 0.5}),
              0.1)
        << scheduler_first;
  }
}

TEST(TorchRestore, AnOptimizerSavedWithoutASchedulerGivesItsLearningRateInEveryOrder) {
  Training first(1);
  ExponentialLR scheduler(first.adam, {.gamma = 0.5});
  scheduler.step();
  for (const bool scheduler_first : {true, false}) {
    EXPECT_EQ(resumed_lr<ExponentialLR>(scheduler_first, state_dict(Training(1).adam), state_dict(scheduler), {},
                                        ExponentialLROptions{.gamma = 0.5}),
              0.1)
        << scheduler_first;
  }
}

TEST(TorchRestore, WhatAProgramKeepsUnderASchedulersKeyIsLeftAlone) {
  Training training(1);
  set_group_value(training.adam, 0, "max_lr", "high");
  const Value state = state_dict(training.adam);
  Training other(2);
  load_state_dict(other.adam, state);
  StepLR scheduler(other.adam, {.step_size = 1});
  load_state_dict(scheduler, state_dict(scheduler));
  EXPECT_EQ(*group_value(other.adam, 0, "max_lr"), Value("high"));
}

TEST(TorchRestore, TheOptimizerMayHaveMoved) {
  auto first = std::make_unique<SGD>(one_parameter(), SGDOptions(0.1));
  { ExponentialLR scheduler(*first, {.gamma = 0.5}); }
  SGD second(std::move(*first));
  first.reset();
  EXPECT_EQ(*group_value(second, 0, "initial_lr"), Value(0.1));
  ExponentialLR scheduler(second, {.gamma = 0.5});
  scheduler.step();
  EXPECT_EQ(scheduler.get_last_lr().front(), 0.05);
}

}  // namespace
}  // namespace torchkeep
