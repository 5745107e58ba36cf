// SPDX-License-Identifier: BSD-3-Clause
// Loading optimizers: matching by name and order, refusals, options, extras.
#include "bits.h"
#include "training.h"

namespace torchkeep {
namespace {

using namespace torch::optim;

struct Trained {
  SmallNet net = make_net();
  Adam adam{net->parameters(), AdamOptions(0.1)};
  Trained() { train(net, adam, 2); }
  Value saved() { return state_dict(adam, net).clone(); }
};

Value with_group(const Value& state, const std::string& key, Value value) {
  Value group = state["param_groups"][0];
  group.set(key, std::move(value));
  Value copy = state;
  copy.set("param_groups", List{group});
  return copy;
}

/// With these names of the parameters of the only group.
Value with_names(const Value& state, Value names) {
  Value copy = state;
  copy.set("param_names", List{std::move(names)});
  return copy;
}

/// Expects a refusal that names all of `words` and leaves every bit of the optimizer as it was.
template <class... Words>
void expect_refusal(Optimizer& optimizer, const Value& state, const NamedModules& modules, Code code,
                    const Words&... words) {
  const Value before = state_dict(optimizer).clone();
  expect_error([&] { load_state_dict(optimizer, state, modules); }, code, words...);
  EXPECT_EQ(state_dict(optimizer).clone(), before);
}

TEST(OptimizerLoad, MatchesByNameWhateverTheOrder) {
  Trained trained;
  const Value state = trained.saved();
  SmallNet net = make_net(2);
  Adam adam({net->second->bias, net->first->weight, net->second->weight, net->first->bias});
  load_state_dict(adam, state, net);
  const Value back = state_dict(adam, net);
  EXPECT_EQ(back["state"][1].clone(), state["state"][0].clone());
  EXPECT_EQ(back["state"][0].clone(), state["state"][3].clone());
  const Value others = with_names(state, List{"y.first.weight", "y.first.bias", "y.second.weight", "y.second.bias"});
  expect_refusal(adam, others, NamedModules{{"x", *net}}, Code::mismatch, "missing in the file: x.second.bias",
                 "unexpected in the file: y.first.weight");
}

TEST(OptimizerLoad, MatchesByOrderAndShapeWithoutNames) {
  Trained trained;
  const Value state = state_dict(trained.adam).clone();
  SmallNet net = make_net(2);
  Adam adam(net->parameters());
  const LoadReport report = load_state_dict(adam, state, net);
  EXPECT_TRUE(report.complete() && report.by_order);
  EXPECT_FALSE(load_state_dict(adam, trained.saved(), net).by_order);
  load_state_dict(adam, state, net);
  EXPECT_EQ(state_dict(adam).clone(), state);
  Adam reordered({net->second->bias, net->first->weight, net->second->weight, net->first->bias});
  expect_error([&] { load_state_dict(reordered, state); }, Code::mismatch,
               "parameter 0 of group 0: exp_avg: shape (4, 3) in the file, (2,) of the parameter",
               "parameter 3 of group 0: exp_avg_sq: shape (2,) in the file, (4,) of the parameter");
  EXPECT_TRUE(state_dict(reordered)["state"].empty());
}

TEST(OptimizerLoad, ASharedParameterIsKnownByAnyOfItsNames) {
  Trained trained;
  const NamedModules both{{"whole", *trained.net}, {"part", *trained.net->first}};
  const NamedModules turned{{"part", *trained.net->first}, {"whole", *trained.net}};
  const Value state = state_dict(trained.adam, both).clone();
  EXPECT_NE(state["param_names"].clone(), state_dict(trained.adam, turned)["param_names"].clone());
  SmallNet net = make_net(2);
  Adam adam(net->parameters());
  EXPECT_FALSE(load_state_dict(adam, state, {{"part", *net->first}, {"whole", *net}}).by_order);
  EXPECT_EQ(state_dict(adam)["state"].clone(), state["state"].clone());
  // Two parameters of the file are not one here.
  const Value apart = with_names(state, List{"whole.first.weight", "whole.first.bias", "part.weight", "part.bias"});
  expect_refusal(adam, apart, NamedModules{{"part", *net->first}, {"whole", *net}}, Code::mismatch,
                 "whole.second.weight");
}

TEST(OptimizerLoad, WithoutNamesTheModelsKeysInTheFileSayTheOrder) {
  Trained trained;
  const Value state = state_dict(trained.adam).clone();
  SmallNet net = make_net(2);
  Adam adam(net->parameters());
  const auto keys = model_keys(state_dict(*trained.net), "net");
  EXPECT_FALSE(load_state_dict(adam, state, {{"net", *net}}, {.model_keys = keys}).by_order);
  EXPECT_EQ(state_dict(adam)["state"].clone(), state["state"].clone());
  // A file whose model has its layers in another order, and so has its optimizer.
  const std::vector<std::string> turned = {"net.second.weight", "net.second.bias", "net.first.weight",
                                           "net.first.bias"};
  Value states = Value::mapping(Kind::dict);
  for (std::int64_t i = 0; i < 4; ++i) states.set(i, state["state"][(i + 2) % 4]);
  Value other = state;
  other.set("state", states);
  Adam again(net->parameters());
  EXPECT_FALSE(load_state_dict(again, other, {{"net", *net}}, {.model_keys = turned}).by_order);
  EXPECT_EQ(state_dict(again)["state"].clone(), state["state"].clone());
  // Keys that do not name every parameter say nothing.
  EXPECT_TRUE(load_state_dict(adam, state, {{"net", *net}}, {.model_keys = {"net.first.weight"}}).by_order);
}

TEST(OptimizerLoad, SeveralModulesNameTheirParameters) {
  torch::nn::Linear encoder(2, 2), decoder(2, 1);
  std::vector<at::Tensor> params = encoder->parameters();
  for (const at::Tensor& param : decoder->parameters()) params.push_back(param);
  SGD sgd(params, SGDOptions(0.1));
  const Value state = state_dict(sgd, {{"encoder", *encoder}, {"decoder", decoder}});
  EXPECT_EQ(state["param_names"][0].to<std::vector<std::string>>(),
            (std::vector<std::string>{"encoder.weight", "encoder.bias", "decoder.weight", "decoder.bias"}));
  EXPECT_TRUE(load_state_dict(sgd, state, {{"decoder", *decoder}, {"encoder", *encoder}}).complete());
  expect_error([&] { state_dict(sgd, *encoder); }, Code::invalid_argument, "parameter 2 of group 0 (1, 2)",
               "parameter 3 of group 0 (1,)", "none of the modules");
}

TEST(OptimizerLoad, ATiedParameterHasItsFirstName) {
  SmallNet net = make_net();
  net->register_module("again", net->first);
  SGD sgd(net->first->parameters(), SGDOptions(0.1));
  EXPECT_EQ(state_dict(sgd, net)["param_names"][0].to<std::vector<std::string>>(),
            (std::vector<std::string>{"first.weight", "first.bias"}));
}

TEST(OptimizerLoad, GroupsAreFoundByTheirNames) {
  SmallNet net = make_net();
  const auto make = [&](bool swapped) {
    std::vector<OptimizerParamGroup> groups;
    groups.emplace_back((swapped ? net->second : net->first)->parameters());
    groups.emplace_back((swapped ? net->first : net->second)->parameters());
    return std::make_unique<Adam>(groups, AdamOptions(0.5));
  };
  auto adam = make(false);
  set_group_value(*adam, 0, "lr", 0.25);
  train(net, *adam, 1);
  const Value state = state_dict(*adam, net).clone();
  auto swapped = make(true);
  EXPECT_TRUE(load_state_dict(*swapped, state, net).complete());
  EXPECT_EQ(*group_value(*swapped, 0, "lr"), Value(0.5));
  EXPECT_EQ(*group_value(*swapped, 1, "lr"), Value(0.25));
  Adam one(net->parameters());
  expect_refusal(one, state, net, Code::mismatch, "2 groups in the file, 1 in the optimizer");
  expect_error([&] { load_state_dict(one, state); }, Code::mismatch, "2 groups in the file, 1 in the optimizer");
  std::vector<OptimizerParamGroup> mixed;
  mixed.emplace_back(std::vector<at::Tensor>{net->first->weight, net->second->weight});
  mixed.emplace_back(std::vector<at::Tensor>{net->first->bias, net->second->bias});
  Adam shuffled(mixed);
  expect_refusal(shuffled, state, net, Code::mismatch, "group 0: its parameters are in groups 0 and 1", "group 1");
}

TEST(OptimizerLoad, GroupSizesMustMatchWithoutNames) {
  Trained trained;
  Adam adam(trained.net->first->parameters());
  expect_refusal(adam, state_dict(trained.adam).clone(), trained.net, Code::mismatch, "group 0",
                 "4 parameters in the file, 2 in the optimizer");
}

TEST(OptimizerLoad, AllThatDoesNotFitIsInOneError) {
  Trained trained;
  Value state = trained.saved();
  Value states = state["state"];
  Value first = states[0];
  first.set("exp_avg", torch::zeros({7}));
  first.erase("step");
  first.set("mu_product", 1.0);
  states.set(0, first);
  states.set(2, 5);
  states.set("0", Value{{"step", 1}});
  state.set("state", states);
  state = with_group(with_group(state, "betas", 0.9), "maximize", true);
  expect_refusal(trained.adam, state, trained.net, Code::mismatch,
                 "first.weight: exp_avg: shape (7,) in the file, (4, 3) of the parameter",
                 "first.weight: step: missing", "first.weight: mu_product: no state of Adam",
                 "second.weight: its state is a int", "group 0: betas: expected a pair", "group 0: maximize",
                 "no group lists this id");
}

TEST(OptimizerLoad, RefusesAnotherOptimizersState) {
  SmallNet net = make_net();
  Adam adam(net->parameters());
  AdamW adamw(net->parameters());
  SGD sgd(net->parameters(), SGDOptions(0.1));
  RMSprop rmsprop(net->parameters());
  Adagrad adagrad(net->parameters());
  LBFGS lbfgs(net->parameters());
  const std::vector<std::pair<std::string, Optimizer*>> all = {{"Adam", &adam},       {"AdamW", &adamw},
                                                               {"SGD", &sgd},         {"RMSprop", &rmsprop},
                                                               {"Adagrad", &adagrad}, {"LBFGS", &lbfgs}};
  for (const auto& [from, source] : all) {
    for (const auto& [to, target] : all) {
      if (source == target) continue;
      SCOPED_TRACE(from + " into " + to);
      const bool adams = from.starts_with("Adam") && to.starts_with("Adam");
      const Code code = adams ? Code::unsupported : Code::mismatch;
      expect_refusal(*target, state_dict(*source).clone(), net, code,
                     adams ? "decoupled_weight_decay" : "looks like that of");
    }
  }
}

TEST(OptimizerLoad, RefusesWhatChangesTheMathematicsAndAcceptsWhatDoesNot) {
  Trained trained;
  const Value state = trained.saved();
  expect_refusal(trained.adam, with_group(state, "maximize", true), trained.net, Code::unsupported, "maximize",
                 "not False in the file");
  Value harmless = state;
  for (const char* flag : {"foreach", "fused", "capturable", "differentiable"})
    harmless = with_group(harmless, flag, true);
  EXPECT_TRUE(load_state_dict(trained.adam, harmless, trained.net).complete());
  EXPECT_EQ(state_dict(trained.adam, trained.net).clone(), harmless.clone());
  Value old = state["param_groups"][0];
  for (const char* flag : {"foreach", "fused", "capturable", "differentiable", "maximize", "decoupled_weight_decay"}) {
    old.erase(flag);
  }
  Value old_state = state;
  old_state.set("param_groups", List{old});
  EXPECT_TRUE(load_state_dict(trained.adam, old_state, trained.net).complete());
}

TEST(OptimizerLoad, AmsgradWithoutItsMaximumIsRefused) {
  Trained trained;
  const Value state = trained.saved();
  expect_refusal(trained.adam, with_group(state, "amsgrad", true), trained.net, Code::mismatch,
                 "first.weight: max_exp_avg_sq: missing", "second.bias: max_exp_avg_sq: missing");
  Adam amsgrad(trained.net->parameters(), AdamOptions().amsgrad(true));
  expect_error([&] { load_state_dict(amsgrad, state, trained.net, {.keep = {"amsgrad"}}); }, Code::mismatch,
               "max_exp_avg_sq");
}

TEST(OptimizerLoad, ComplexAndIntegerMomentsAreRefused) {
  Trained trained;
  Value state = trained.saved();
  Value states = state["state"];
  Value first = states[0];
  first.set("exp_avg", torch::zeros({4, 3}, torch::kComplexFloat));
  first.set("exp_avg_sq", torch::zeros({4, 3}, torch::kInt));
  states.set(0, first);
  state.set("state", states);
  expect_refusal(trained.adam, state, trained.net, Code::mismatch, "exp_avg: complex64", "exp_avg_sq: int32");
}

TEST(OptimizerLoad, HyperparametersCanBeKept) {
  Trained trained;
  Value state = with_group(with_group(trained.saved(), "lr", 0.75), "eps", 0.5);
  state = with_group(state, "initial_lr", 0.75);
  load_state_dict(trained.adam, state, trained.net, {.keep = {"lr"}});
  EXPECT_EQ(*group_value(trained.adam, 0, "lr"), Value(0.1));
  EXPECT_EQ(*group_value(trained.adam, 0, "eps"), Value(0.5));
  EXPECT_FALSE(group_value(trained.adam, 0, "initial_lr").has_value());
  set_group_value(trained.adam, 0, "initial_lr", 0.2);
  load_state_dict(trained.adam, state, trained.net, {.keep = {"lr"}});
  EXPECT_EQ(*group_value(trained.adam, 0, "initial_lr"), Value(0.2));
  load_state_dict(trained.adam, with_group(state, "eps", 0.25), trained.net, {.keep_hyperparameters = true});
  EXPECT_EQ(*group_value(trained.adam, 0, "eps"), Value(0.5));
  load_state_dict(trained.adam, state, trained.net);
  EXPECT_EQ(*group_value(trained.adam, 0, "lr"), Value(0.75));
  EXPECT_EQ(*group_value(trained.adam, 0, "initial_lr"), Value(0.75));
  expect_error([&] { load_state_dict(trained.adam, state, {.keep = {"momentum"}}); }, Code::invalid_argument,
               "momentum", "weight_decay");
}

TEST(OptimizerLoad, PartialCarriesOverWhatFitsAndReportsTheRest) {
  Trained trained;
  const Value state = trained.saved();
  SmallNet changed_head(5);
  Adam adam(changed_head->parameters());
  train(changed_head, adam, 1);
  const LoadReport report = load_state_dict(adam, state, changed_head, {.partial = true});
  ASSERT_EQ(report.mismatched.size(), 4U);
  EXPECT_EQ(report.mismatched[0].name, "second.weight");
  EXPECT_TRUE(report.missing.empty());
  const Value back = state_dict(adam, changed_head);
  EXPECT_EQ(back["state"].size(), 2U);
  EXPECT_EQ(back["state"][0].clone(), state["state"][0].clone());
  EXPECT_EQ(back["param_groups"][0]["lr"], Value(0.1));

  torch::nn::Sequential other(torch::nn::Linear(3, 4));
  const auto wrapped = std::make_shared<torch::nn::Module>();
  wrapped->register_module("first", other[0]->as<torch::nn::Linear>()->shared_from_this());
  wrapped->register_module("third", torch::nn::Linear(1, 1));
  Adam smaller(wrapped->parameters());
  const LoadReport names = load_state_dict(smaller, state, wrapped, {.partial = true});
  EXPECT_EQ(names.missing, (std::vector<std::string>{"third.weight", "third.bias"}));
  EXPECT_EQ(names.unexpected, (std::vector<std::string>{"second.weight", "second.bias"}));
  EXPECT_EQ(state_dict(smaller)["state"].size(), 2U);
}

TEST(OptimizerLoad, AWrappersPrefixIsNamedAndTakenOff) {
  Trained trained;
  Value state = trained.saved();
  std::vector<std::string> names = state["param_names"][0].to<std::vector<std::string>>();
  for (std::string& name : names) name = "module." + name;
  state = with_names(state, names);
  expect_refusal(trained.adam, state, trained.net, Code::mismatch, ".strip_prefix = \"module.\"");
  EXPECT_TRUE(load_state_dict(trained.adam, state, trained.net, {.strip_prefix = "module."}).complete());
  EXPECT_TRUE(load_state_dict(trained.adam, state, trained.net, {.by_order = true}).complete());
}

TEST(OptimizerLoad, NamesInTheGroupsAreReadAsPyTorchWritesThem) {
  Trained trained;
  Value state = trained.saved();
  const Value names = state["param_names"][0];
  state.erase("param_names");
  SmallNet net = make_net(3);
  std::vector<at::Tensor> reversed = net->parameters();
  std::reverse(reversed.begin(), reversed.end());
  Adam adam(reversed);
  // With the names of the tracked module in front (an older torchkeep), and as named_parameters() gives them.
  EXPECT_TRUE(load_state_dict(adam, with_group(state, "param_names", names), net).complete());
  const Value expected = state_dict(adam).clone();
  Adam other(reversed);
  EXPECT_TRUE(load_state_dict(other, with_group(state, "param_names", names), {{"model", *net}}).complete());
  EXPECT_EQ(state_dict(other).clone(), expected);
}

TEST(OptimizerLoad, NamesInPlaceOfIdsAreNames) {
  Trained trained;
  const Value state = trained.saved();
  const Value names = state["param_names"][0];
  Value by_name = Value::mapping(Kind::dict);
  for (int i = 3; i >= 0; --i) by_name.set(names[i], state["state"][i]);
  Value group = state["param_groups"][0];
  group.erase("param_names");
  group.set("params", names);
  SmallNet net = make_net(3);
  Adam adam(net->parameters());
  EXPECT_TRUE(load_state_dict(adam, Value{{"state", by_name}, {"param_groups", List{group}}}, net).complete());
  EXPECT_EQ(state_dict(adam, net).clone(), state);
}

TEST(OptimizerLoad, WhatIsNoOptimizerStateIsRefused) {
  Trained trained;
  expect_refusal(trained.adam, Value(1), trained.net, Code::mismatch, "int");
  expect_refusal(trained.adam, Value{{"state", Dict{}}}, trained.net, Code::not_found, "param_groups");
  expect_refusal(trained.adam, Value{{"state", Dict{}}, {"param_groups", List{1}}}, trained.net, Code::mismatch,
                 "dict");
  const Value names = with_names(trained.saved(), List{"one"});
  expect_refusal(trained.adam, names, trained.net, Code::mismatch, "1 param_names for 4 params");
  const Value twice = with_names(trained.saved(), List{"a", "a", "b", "c"});
  expect_refusal(trained.adam, twice, trained.net, Code::mismatch, "two parameters are named 'a'");
}

TEST(OptimizerLoad, AFileThatCannotBeReadChangesNothing) {
  Trained trained;
  Value state = trained.saved();
  Value states = state["state"];
  Value last = states[3];
  last.set("exp_avg", broken_tensor({2}));
  states.set(3, last);
  state.set("state", states);
  expect_refusal(trained.adam, state, trained.net, Code::mismatch, "second.bias: exp_avg: CRC-32 is wrong");
}

// ---- extras ----

TEST(GroupExtras, SurviveALoadAndASave) {
  Trained trained;
  const Value state = with_group(with_group(trained.saved(), "initial_lr", 0.5), "layers", List{1, "two"});
  load_state_dict(trained.adam, state, trained.net);
  EXPECT_EQ(*group_value(trained.adam, 0, "initial_lr"), Value(0.5));
  const Value back = state_dict(trained.adam, trained.net)["param_groups"][0];
  EXPECT_EQ(back["layers"], (Value(List{1, "two"})));
  EXPECT_EQ(back.items()[back.size() - 1].key, Value("params"));
  load_state_dict(trained.adam, trained.saved(), trained.net);
  load_state_dict(trained.adam, Trained().saved(), trained.net);
  EXPECT_TRUE(group_extras(trained.adam, 0).empty());
}

TEST(GroupExtras, BelongToTheirOptimizerAndMoveWithIt) {
  SmallNet net = make_net();
  auto first = std::make_unique<SGD>(net->parameters(), SGDOptions(0.1));
  auto& options = first->param_groups()[0].options();
  set_group_value(*first, 0, "initial_lr", 0.5);
  EXPECT_EQ(&options, &first->param_groups()[0].options());
  EXPECT_EQ(static_cast<SGDOptions&>(first->defaults()).lr(), 0.1);
  SGD moved(std::move(*first));
  EXPECT_EQ(*group_value(moved, 0, "initial_lr"), Value(0.5));
  first.reset();
  for (int i = 0; i < 100; ++i) {
    const SGD fresh(net->parameters(), SGDOptions(0.1));
    ASSERT_FALSE(group_value(fresh, 0, "initial_lr").has_value());
  }
  moved.add_param_group(OptimizerParamGroup({torch::ones({1})}));
  EXPECT_FALSE(group_value(moved, 1, "initial_lr").has_value());
  train(net, moved, 1);
}

TEST(GroupExtras, SurviveLibTorchsOwnSaveAndLoad) {
  SmallNet net = make_net();
  Adam adam(net->parameters());
  set_group_value(adam, 0, "initial_lr", 0.5);
  std::stringstream stream;
  torch::save(adam, stream);
  torch::load(adam, stream);
  EXPECT_EQ(*group_value(adam, 0, "initial_lr"), Value(0.5));
}

TEST(GroupExtras, AnOptionIsNoExtra) {
  SmallNet net = make_net();
  SGD sgd(net->parameters(), SGDOptions(0.1));
  set_group_value(sgd, 0, "momentum", 0.5);
  EXPECT_EQ(static_cast<SGDOptions&>(sgd.param_groups()[0].options()).momentum(), 0.5);
  EXPECT_TRUE(group_extras(sgd, 0).empty());
  expect_error([&] { set_group_value(sgd, 0, "momentum", "high"); }, Code::mismatch, "str");
  expect_error([&] { set_group_extras(sgd, 0, Value{{"lr", 1}}); }, Code::invalid_argument, "lr");
  expect_error([&] { set_group_extras(sgd, 0, Value{{"params", 1}}); }, Code::invalid_argument, "params");
  expect_error([&] { group_extras(sgd, 1); }, Code::invalid_argument, "1 parameter groups");
}

// ---- an optimizer of one's own ----

struct OwnOptions : OptimizerCloneableOptions<OwnOptions> {
  double rate = 0.5;
  double get_lr() const override { return rate; }
  void set_lr(double value) override { rate = value; }
};

struct Own : Optimizer {
  explicit Own(std::vector<at::Tensor> params) : Optimizer(std::move(params), std::make_unique<OwnOptions>()) {}
  at::Tensor step(LossClosure) override { return {}; }
};

struct OwnStateful : Own {
  using Own::Own;
  int steps = 3;
  Value state_dict() const { return Value{{"steps", steps}}; }
  void load_state_dict(const Value& value) { steps = value["steps"].to<int>(); }
};

TEST(OwnOptimizer, TakesPartByItsTwoFunctions) {
  OwnStateful own({torch::ones({1})});
  EXPECT_EQ(state_dict(own), (Value{{"steps", 3}}));
  load_state_dict(own, Value{{"steps", 8}});
  EXPECT_EQ(own.steps, 8);
}

TEST(OwnOptimizer, WithoutThemIsRefusedWithAdvice) {
  Own own({torch::ones({1})});
  expect_error([&] { state_dict(own); }, Code::unsupported, "state_dict()", "load_state_dict(value)");
  expect_error([&] { load_state_dict(own, Value{}); }, Code::unsupported, "state_dict()");
}

TEST(OwnOptimizer, HasALearningRateAndMayHaveExtras) {
  Own own({torch::ones({1})});
  EXPECT_EQ(*group_value(own, 0, "lr"), Value(0.5));
  set_group_value(own, 0, "lr", 0.25);
  EXPECT_EQ(own.param_groups()[0].options().get_lr(), 0.25);
  expect_error([&] { set_group_value(own, 0, "initial_lr", 0.5); }, Code::unsupported, "keep_group_extras");
  keep_group_extras<OwnOptions>(own);
  set_group_value(own, 0, "initial_lr", 0.5);
  EXPECT_EQ(*group_value(own, 0, "initial_lr"), Value(0.5));
  Own other({torch::ones({1})});
  expect_error([&] { keep_group_extras<AdamOptions>(other); }, Code::invalid_argument, "type");
}

}  // namespace
}  // namespace torchkeep
