// SPDX-License-Identifier: BSD-3-Clause
// Optimizer state dicts in C++ alone: form, order, matching, checks, and that nothing changes when something does not
// fit.
#include "bits.h"
#include "training.h"

namespace torchkeep {
namespace {

using namespace torch::optim;

/// An optimizer of each class over a net, its options chosen so that every field of the state is used.
std::vector<std::pair<std::string, std::function<std::unique_ptr<Optimizer>(SmallNet&)>>> makers() {
  return {
      {"Adam", [](SmallNet& n) { return std::make_unique<Adam>(n->parameters(), AdamOptions(0.1).amsgrad(true)); }},
      {"AdamW", [](SmallNet& n) { return std::make_unique<AdamW>(n->parameters(), AdamWOptions(0.1)); }},
      {"SGD", [](SmallNet& n) { return std::make_unique<SGD>(n->parameters(), SGDOptions(0.1).momentum(0.9)); }},
      {"RMSprop",
       [](SmallNet& n) {
         return std::make_unique<RMSprop>(n->parameters(), RMSpropOptions(0.01).momentum(0.9).centered(true));
       }},
      {"Adagrad", [](SmallNet& n) { return std::make_unique<Adagrad>(n->parameters(), AdagradOptions(0.1)); }},
      {"LBFGS", [](SmallNet& n) { return std::make_unique<LBFGS>(n->parameters(), LBFGSOptions(0.5).max_iter(3)); }},
  };
}

std::vector<std::string> keys(const Value& dict) {
  std::vector<std::string> names;
  for (const Entry& entry : dict.items()) names.push_back(entry.key.is(Kind::string) ? entry.key.as_string() : "int");
  return names;
}

Value changed(Value dict, const std::string& key, Value value) {
  dict.set(key, std::move(value));
  return dict;
}

/// The state dict with one entry of its first group changed.
Value with_group_value(const Value& state, const std::string& key, Value value) {
  return changed(state, "param_groups", List{changed(state["param_groups"][0], key, std::move(value))});
}

/// The state dict with one entry of one parameter's state changed.
Value with_state_value(const Value& state, int id, const std::string& key, Value value) {
  Value states = state["state"];
  states.set(id, changed(states[id], key, std::move(value)));
  return changed(state, "state", states);
}

TEST(OptimizerState, ATrainedOptimizerComesBackBitForBitAndContinuesAsIfNeverStopped) {
  for (const auto& [name, make] : makers()) {
    SCOPED_TRACE(name);
    SmallNet net = make_net();
    auto optimizer = make(net);
    train(*&net, *optimizer, 3);
    const Value model = state_dict(net).clone();
    const Value state = state_dict(*optimizer, net).clone();

    SmallNet other = make_net(2);
    auto resumed = make(other);
    load_state_dict(other, model);
    EXPECT_TRUE(load_state_dict(*resumed, state, other).complete());
    EXPECT_EQ(state_dict(*resumed, other).clone(), state);

    train(net, *optimizer, 3, 8);
    train(other, *resumed, 3, 8);
    EXPECT_EQ(state_dict(other).clone(), state_dict(net).clone());
    EXPECT_EQ(state_dict(*resumed, other).clone(), state_dict(*optimizer, net).clone());
  }
}

TEST(OptimizerState, LoadingRemovesTheStateThatTheFileLacks) {
  for (const auto& [name, make] : makers()) {
    SCOPED_TRACE(name);
    SmallNet net = make_net();
    auto optimizer = make(net);
    const Value fresh = state_dict(*optimizer).clone();
    train(net, *optimizer, 2);
    EXPECT_NE(state_dict(*optimizer), fresh);
    load_state_dict(*optimizer, fresh);
    EXPECT_EQ(state_dict(*optimizer).clone(), fresh);
    train(net, *optimizer, 1);
  }
}

TEST(OptimizerState, FieldsAndGroupsAreInPythonsOrder) {
  SmallNet net = make_net();
  Adam adam(net->parameters(), AdamOptions().amsgrad(true));
  train(net, adam, 1);
  const Value state = state_dict(adam, net);
  EXPECT_EQ(keys(state), (std::vector<std::string>{"state", "param_groups", "param_names"}));
  EXPECT_EQ(keys(state["state"][0]), (std::vector<std::string>{"step", "exp_avg", "exp_avg_sq", "max_exp_avg_sq"}));
  EXPECT_EQ(keys(state["param_groups"][0]),
            (std::vector<std::string>{"lr", "betas", "eps", "weight_decay", "amsgrad", "maximize", "foreach",
                                      "capturable", "differentiable", "fused", "decoupled_weight_decay", "params"}));
  EXPECT_EQ(state["param_names"][0].to<std::vector<std::string>>(),
            (std::vector<std::string>{"first.weight", "first.bias", "second.weight", "second.bias"}));
  EXPECT_FALSE(state_dict(adam).contains("param_names"));
  EXPECT_FALSE(state_dict(adam, net, {.param_names = false}).contains("param_names"));
}

TEST(OptimizerState, UntouchedDefaultsKeepPythonsTypes) {
  SmallNet net = make_net();
  const Value adam = state_dict(Adam(net->parameters()))["param_groups"][0];
  EXPECT_EQ(adam["weight_decay"], Value(0));
  EXPECT_EQ(adam["betas"], Value(Tuple{0.9, 0.999}));
  EXPECT_TRUE(adam["foreach"].is_none());
  EXPECT_EQ(state_dict(AdamW(net->parameters()))["param_groups"][0]["decoupled_weight_decay"], Value(true));
  EXPECT_EQ(state_dict(LBFGS(net->parameters()))["param_groups"][0]["lr"], Value(1));
  EXPECT_EQ(state_dict(LBFGS(net->parameters(), LBFGSOptions(1).max_iter(8)))["param_groups"][0]["max_eval"],
            Value(10));
  EXPECT_EQ(state_dict(SGD(net->parameters(), SGDOptions(1)))["param_groups"][0]["lr"], Value(1.0));
}

TEST(OptimizerState, StepIsAFloat32ScalarAndWiderOnlyWhereThatCannotCount) {
  SmallNet net = make_net();
  Adam adam(net->parameters());
  train(net, adam, 1);
  auto& state = static_cast<AdamParamState&>(*adam.state().at(net->first->weight.unsafeGetTensorImpl()));
  const auto written = [&] { return state_dict(adam)["state"][0]["step"].as_tensor(); };
  EXPECT_EQ(written().dtype, DType::float32);
  EXPECT_TRUE(written().sizes.empty());
  state.step(1 << 24);
  EXPECT_EQ(written().to_vector<float>(), std::vector<float>{16777216.0F});
  state.step((1 << 24) + 1);
  EXPECT_EQ(written().to_vector<double>(), std::vector<double>{16777217.0});
  load_state_dict(adam, state_dict(adam).clone());
  EXPECT_EQ(static_cast<AdamParamState&>(*adam.state().at(net->first->weight.unsafeGetTensorImpl())).step(), 16777217);
}

TEST(OptimizerState, AStepThatNoFloatCanCountIsRefused) {
  SmallNet net = make_net();
  Adam adam(net->parameters());
  train(net, adam, 1);
  static_cast<AdamParamState&>(*adam.state().begin()->second).step((std::int64_t{1} << 53) + 1);
  expect_error([&] { state_dict(adam); }, Code::unsupported, "9007199254740993");
}

TEST(OptimizerState, StepIsFloat64UnderThatDefaultDtype) {
  torch::set_default_dtype(caffe2::TypeMeta::Make<double>());
  SmallNet net = make_net();
  Adam adam(net->parameters());
  train(net, adam, 1);
  const DType dtype = state_dict(adam)["state"][0]["step"].as_tensor().dtype;
  torch::set_default_dtype(caffe2::TypeMeta::Make<float>());
  EXPECT_EQ(dtype, DType::float64);
}

TEST(OptimizerState, EveryFormOfPythonsStepIsRead) {
  SmallNet net = make_net();
  Adam adam(net->parameters());
  train(net, adam, 2);
  const Value state = state_dict(adam).clone();
  const auto step_of = [&](Value step) {
    load_state_dict(adam, with_state_value(state, 0, "step", std::move(step)));
    return static_cast<AdamParamState&>(*adam.state().at(net->first->weight.unsafeGetTensorImpl())).step();
  };
  EXPECT_EQ(step_of(11), 11);
  EXPECT_EQ(step_of(12.0), 12);
  EXPECT_EQ(step_of(torch::tensor(13.0F)), 13);
  EXPECT_EQ(step_of(torch::tensor(14, torch::kLong)), 14);
  EXPECT_EQ(step_of(torch::tensor({15.0}, torch::kDouble)), 15);
  for (const Value& bad : {Value(2.5), Value(-1), Value("3"), Value(torch::tensor({1.0, 2.0})), Value(true),
                           Value(std::numeric_limits<double>::quiet_NaN()), Value(1e300)}) {
    expect_error([&] { step_of(bad); }, Code::mismatch, "parameter 0 of group 0: step");
  }
}

TEST(OptimizerState, GroupOptionsAreExactAlthoughLibTorchMergesThemWithTheDefaults) {
  SmallNet net = make_net();
  const auto make = [&] {
    std::vector<OptimizerParamGroup> groups;
    groups.emplace_back(net->first->parameters(), std::make_unique<SGDOptions>(SGDOptions(0.5).momentum(0.5)));
    groups.emplace_back(net->second->parameters());
    return std::make_unique<SGD>(groups, SGDOptions(0.1).momentum(0.9));
  };
  const auto sgd = make();
  set_group_value(*sgd, 0, "lr", 1e-3);       // the defaults of SGDOptions, which a constructor
  set_group_value(*sgd, 0, "momentum", 0.0);  // would replace by 0.1 and 0.9
  const auto other = make();
  load_state_dict(*other, state_dict(*sgd));
  const auto& options = static_cast<SGDOptions&>(other->param_groups()[0].options());
  EXPECT_EQ(options.lr(), 1e-3);
  EXPECT_EQ(options.momentum(), 0.0);
  EXPECT_EQ(static_cast<SGDOptions&>(other->param_groups()[1].options()).momentum(), 0.9);
}

TEST(OptimizerState, OptionsStayTheSameObjectsWhenLoaded) {
  SmallNet net = make_net();
  Adam adam(net->parameters());
  auto& options = static_cast<AdamOptions&>(adam.param_groups()[0].options());
  load_state_dict(adam, with_group_value(with_group_value(state_dict(adam), "lr", 0.25), "initial_lr", 0.5));
  EXPECT_EQ(options.lr(), 0.25);
  EXPECT_EQ(&options, &adam.param_groups()[0].options());
}

TEST(OptimizerState, StateKeepsItsOwnDtypeAndEveryBit) {
  SmallNet net = make_net();
  net->to(torch::kBFloat16);
  Adam adam(net->parameters());
  at::Tensor moment = torch::full({4, 3}, 0.1);
  const std::uint32_t nan = 0x7fa00123u;
  std::memcpy(moment.data_ptr(), &nan, sizeof nan);
  Value states = Value::mapping(Kind::dict);
  states.set(0, Value{{"step", 1}, {"exp_avg", moment}, {"exp_avg_sq", torch::ones({3, 4}).t()}});
  load_state_dict(adam, changed(state_dict(adam), "state", states));
  const auto& state = static_cast<AdamParamState&>(*adam.state().at(net->first->weight.unsafeGetTensorImpl()));
  EXPECT_TRUE(same_bits(state.exp_avg(), moment));
  EXPECT_EQ(state.exp_avg_sq().strides(), (std::vector<std::int64_t>{1, 4}));
  EXPECT_FALSE(state.exp_avg().is_alias_of(moment));
}

TEST(OptimizerState, AParameterListedTwiceHasTheNumberOfItsLastPlace) {
  SmallNet net = make_net();
  const at::Tensor a = net->first->weight, b = net->second->weight;
  SGD sgd({a, a, b}, SGDOptions(0.1));
  EXPECT_EQ(state_dict(sgd)["param_groups"][0]["params"].to<std::vector<int>>(), (std::vector<int>{1, 1, 2}));
  EXPECT_TRUE(load_state_dict(sgd, state_dict(sgd)).complete());
}

TEST(OptimizerState, AParameterWithoutGradientHasNoEntry) {
  SmallNet net = make_net();
  net->second->weight.set_requires_grad(false);
  Adam adam(net->parameters());
  train(net, adam, 2);
  const Value states = state_dict(adam)["state"];
  EXPECT_EQ(states.size(), 3U);
  EXPECT_FALSE(states.contains(2));
}

TEST(OptimizerState, MomentumIsAbsentUntilThereIsOne) {
  SmallNet net = make_net();
  SGD plain(net->parameters(), SGDOptions(0.1));
  train(net, plain, 2);
  EXPECT_TRUE(state_dict(plain)["state"].empty());
  SGD sgd(net->parameters(), SGDOptions(0.1).momentum(0.9));
  train(net, sgd, 1);
  Value state = with_state_value(state_dict(sgd).clone(), 1, "momentum_buffer", none);
  load_state_dict(sgd, state);
  EXPECT_FALSE(state_dict(sgd)["state"].contains(1));
  EXPECT_TRUE(state_dict(sgd)["state"].contains(0));
}

TEST(OptimizerState, ANullStateOfAnOldArchiveIsRefusedAtTheSaveAndRepairedByALoad) {
  SmallNet net = make_net();
  Adam adam(net->parameters());
  train(net, adam, 1);
  const Value good = state_dict(adam).clone();
  adam.state()[net->first->bias.unsafeGetTensorImpl()] = nullptr;
  expect_error([&] { state_dict(adam); }, Code::corrupt, "parameter 1 of group 0", "null");
  load_state_dict(adam, good);
  EXPECT_EQ(state_dict(adam).clone(), good);
}

TEST(OptimizerState, AdagradGetsAFirstStateWhereTheFileHasNone) {
  SmallNet net = make_net();
  Adagrad adagrad(net->parameters(), AdagradOptions(0.1).initial_accumulator_value(0.5));
  Value state = state_dict(adagrad).clone();
  EXPECT_EQ(state["state"].size(), 4U);
  Value states = state["state"];
  states.erase(2);
  load_state_dict(adagrad, changed(state, "state", states));
  EXPECT_EQ(state_dict(adagrad).clone(), state);
  train(net, adagrad, 1);
}

TEST(OptimizerState, AdagradGroupsAddedLaterCanBeSavedAndLoaded) {
  SmallNet net = make_net();
  Adagrad adagrad(net->first->parameters());
  adagrad.add_param_group(OptimizerParamGroup(net->second->parameters()));
  const Value state = state_dict(adagrad);
  EXPECT_EQ(state["state"].size(), 2U);
  load_state_dict(adagrad, state.clone());
  train(net, adagrad, 1);  // LibTorch's step() throws for a parameter without state
}

// ---- LBFGS ----

TEST(LbfgsState, EveryStageOfItsStateComesBack) {
  for (int iterations = 1; iterations <= 6; ++iterations) {
    SmallNet net = make_net();
    LBFGS lbfgs(net->parameters(), LBFGSOptions(0.5).max_iter(1).history_size(3));
    train(net, lbfgs, iterations);
    const Value state = state_dict(lbfgs).clone();
    LBFGS other(net->parameters(), LBFGSOptions(0.5).max_iter(1).history_size(3));
    load_state_dict(other, state);
    EXPECT_EQ(state_dict(other).clone(), state) << iterations;
    EXPECT_EQ(state["state"][0]["old_dirs"].size(), std::min<std::size_t>(iterations - 1, 3)) << iterations;
  }
}

TEST(LbfgsState, HDiagIsTheIntOneAfterOneIteration) {
  SmallNet net = make_net();
  LBFGS lbfgs(net->parameters(), LBFGSOptions(0.5).max_iter(1));
  train(net, lbfgs, 1);
  EXPECT_EQ(state_dict(lbfgs)["state"][0]["H_diag"], Value(1));
  train(net, lbfgs, 1);
  EXPECT_TRUE(state_dict(lbfgs)["state"][0]["H_diag"].is(Kind::tensor));
  EXPECT_TRUE(state_dict(lbfgs)["state"][0]["al"][5].is_none());
}

TEST(LbfgsState, AZeroFirstGradientLeavesTheCountersOnly) {
  SmallNet net = make_net();
  for (at::Tensor& param : net->parameters()) param.data().zero_();
  LBFGS lbfgs(net->parameters());
  train(net, lbfgs, 1);
  const Value state = state_dict(lbfgs)["state"][0];
  EXPECT_EQ(state, (Value{{"func_evals", 1}, {"n_iter", 0}}));
  LBFGS other(net->parameters());
  load_state_dict(other, state_dict(lbfgs).clone());
  EXPECT_EQ(state_dict(other)["state"][0], state);
}

TEST(LbfgsState, VectorsOfAnotherLengthOrderOrHistoryAreRefused) {
  SmallNet net = make_net();
  LBFGS lbfgs(net->parameters(), LBFGSOptions(0.5).max_iter(4));
  train(net, lbfgs, 2);
  const Value state = state_dict(lbfgs, net).clone();
  const auto refuses = [&](const Value& bad, const std::string& what) {
    expect_error([&] { load_state_dict(lbfgs, bad, net); }, Code::mismatch, what);
    EXPECT_EQ(state_dict(lbfgs, net).clone(), state);
  };
  refuses(with_state_value(state, 0, "d", torch::zeros({3})), "d: shape (3,) in the file, (26,)");
  refuses(with_state_value(state, 0, "ro", List{}), "one length");
  refuses(with_state_value(state, 0, "old_dirs", 3), "old_dirs: expected list");
  refuses(with_state_value(state, 0, "exp_avg", 3), "exp_avg: no state of LBFGS");
  refuses(with_group_value(state, "history_size", 2), "history_size is 2");
  Value nothing = state["state"];
  Value only_counters = nothing[0];
  only_counters.erase("d");
  nothing.set(0, only_counters);
  refuses(changed(state, "state", nothing), "d: missing");
  std::vector<at::Tensor> reversed = net->parameters();
  std::reverse(reversed.begin(), reversed.end());
  LBFGS other(reversed, LBFGSOptions(0.5));
  expect_error([&] { load_state_dict(other, state, net); }, Code::mismatch, "order");
}

}  // namespace
}  // namespace torchkeep
