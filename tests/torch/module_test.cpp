// SPDX-License-Identifier: BSD-3-Clause
// Module state dicts: names, order, checks, and that nothing changes when something does not fit.
#include "bits.h"

namespace torchkeep {
namespace {

using torch::nn::Linear;

/// Parameters, buffers and children in an order that tells them apart; the last two heads are tied.
struct NetImpl : torch::nn::Module {
  NetImpl() {
    body = register_module("body", torch::nn::Sequential(Linear(3, 4), torch::nn::ReLU(), torch::nn::BatchNorm1d(4)));
    scale = register_parameter("scale", torch::rand({4}));
    register_parameter("absent", at::Tensor(), /*requires_grad=*/false);
    counter = register_buffer("counter", torch::tensor(3));
    head = register_module("head", Linear(4, 2));
    tied = register_module("tied", head);
  }
  at::Tensor forward(at::Tensor x) { return head(body->forward(x) * scale); }
  torch::nn::Sequential body{nullptr};
  at::Tensor scale, counter;
  Linear head{nullptr}, tied{nullptr};
};
TORCH_MODULE(Net);

std::vector<std::string> keys(const Value& dict) {
  std::vector<std::string> names;
  for (const Entry& entry : dict.items()) names.push_back(entry.key.as_string());
  return names;
}

TEST(ModuleState, NamesAreInPythonsOrder) {
  const Net net;
  EXPECT_EQ(keys(state_dict(net)), (std::vector<std::string>{"scale", "counter", "body.0.weight", "body.0.bias",
                                                             "body.2.weight", "body.2.bias", "body.2.running_mean",
                                                             "body.2.running_var", "body.2.num_batches_tracked",
                                                             "head.weight", "head.bias", "tied.weight", "tied.bias"}));
}

TEST(ModuleState, MetadataHasEveryModuleAndItsVersion) {
  const Value state = state_dict(Net());
  EXPECT_TRUE(state.is(Kind::ordered_dict));
  const Value metadata = state.attributes()["_metadata"];
  EXPECT_TRUE(metadata.is(Kind::ordered_dict));
  EXPECT_EQ(keys(metadata), (std::vector<std::string>{"", "body", "body.0", "body.1", "body.2", "head", "tied"}));
  EXPECT_EQ(metadata["body.2"]["version"].to<int>(), 2);
  EXPECT_EQ(metadata["body.0"]["version"].to<int>(), 1);
}

TEST(ModuleState, TensorsAreDetachedAndTiedOnesShare) {
  Net net;
  const Value state = state_dict(*net);
  EXPECT_FALSE(state["head.weight"].as_tensor().requires_grad);
  EXPECT_FALSE(state["head.weight"].as_tensor().is_parameter);
  EXPECT_EQ(state["head.weight"].as_tensor().storage->identity(), state["tied.weight"].as_tensor().storage->identity());
}

TEST(ModuleState, AModuleOnTheStackAHolderAPointerAndAnAnyModuleGiveTheSame) {
  Net net;
  torch::nn::AnyModule any(net);
  const std::shared_ptr<NetImpl> pointer = net.ptr();
  const Value state = state_dict(*net);
  EXPECT_EQ(state_dict(net), state);
  EXPECT_EQ(state_dict(pointer), state);
  EXPECT_EQ(state_dict(net.get()), state);
  EXPECT_EQ(state_dict(any), state);
  NetImpl on_stack;
  EXPECT_TRUE(load_state_dict(on_stack, state).complete());
  EXPECT_EQ(state_dict(on_stack).clone(), state.clone());
  EXPECT_TRUE(load_state_dict(any, state).complete());
  EXPECT_TRUE(load_state_dict(net, state, {.strict = false}).complete());
}

TEST(ModuleState, LoadingCopiesEveryBitIntoTheSameTensors) {
  Net from, to;
  from->scale.data()[0] = std::numeric_limits<float>::quiet_NaN();
  from->counter.fill_(41);
  void* const place = to->head->weight.data_ptr();
  const at::Tensor held = to->head->weight;
  load_state_dict(to, state_dict(from).clone());
  EXPECT_EQ(state_dict(to).clone(), state_dict(from).clone());
  EXPECT_EQ(held.data_ptr(), place);
  EXPECT_TRUE(held.requires_grad());
  EXPECT_TRUE(same_bits(held, from->head->weight));
}

TEST(ModuleState, AllThatDoesNotFitIsInOneErrorAndNothingChanges) {
  Net net;
  Value state = state_dict(Net()).clone();
  state.erase("scale");
  state.erase("body.0.bias");
  state.set("extra", 1);
  state.set("head.weight", torch::zeros({5, 4}));
  state.set("counter", "three");
  const Value before = state_dict(net).clone();
  expect_error([&] { load_state_dict(net, state); }, Code::mismatch, "scale", "body.0.bias", "extra",
               "head.weight: shape (5, 4) in the file, (2, 4) in the module", "counter: a str in the file");
  EXPECT_EQ(state_dict(net).clone(), before);
}

TEST(ModuleState, NotStrictLoadsWhatFitsAndReportsTheRest) {
  Net net;
  const Net other;
  Value state = state_dict(other).clone();
  state.erase("scale");
  state.set("extra", torch::zeros({1}));
  state.set("body.0.weight", torch::zeros({5, 4}));
  const at::Tensor scale = net->scale.detach().clone();
  const LoadReport report = load_state_dict(net, state, {.strict = false});
  EXPECT_EQ(report.missing, std::vector<std::string>{"scale"});
  EXPECT_EQ(report.unexpected, std::vector<std::string>{"extra"});
  ASSERT_EQ(report.mismatched.size(), 1U);
  EXPECT_EQ(report.mismatched[0].name, "body.0.weight");
  EXPECT_TRUE(same_bits(net->scale.detach(), scale));
  EXPECT_TRUE(same_bits(net->head->bias, other->head->bias));
}

TEST(ModuleState, ValuesAreCastToTheModulesDtype) {
  Linear single(3, 2), twice(3, 2);
  twice->to(torch::kDouble);
  load_state_dict(twice, state_dict(single));
  EXPECT_TRUE(same_bits(twice->weight.detach(), single->weight.detach().to(torch::kDouble)));
  load_state_dict(single, state_dict(twice));
  EXPECT_EQ(single->weight.scalar_type(), torch::kFloat);
}

TEST(ModuleState, ImaginaryPartsAreNotDropped) {
  Linear linear(1, 1);
  Value state = state_dict(linear).clone();
  state.set("bias", torch::ones({1}, torch::kComplexFloat));
  expect_error([&] { load_state_dict(linear, state); }, Code::mismatch, "bias: complex64 in the file", "float32");
}

TEST(ModuleState, AVectorOfOneFitsAScalarAndNoOtherDoes) {
  Net net;
  Value state = state_dict(net).clone();
  state.set("counter", torch::tensor({8}));
  EXPECT_TRUE(load_state_dict(net, state).complete());
  EXPECT_EQ(net->counter.item<std::int64_t>(), 8);
  state.set("counter", torch::tensor({8, 9}));
  expect_error([&] { load_state_dict(net, state); }, Code::mismatch,
               "counter: shape (2,) in the file, () in the module");
  state.set("counter", 3);
  state.set("scale", torch::tensor(1.0));
  expect_error([&] { load_state_dict(net, state); }, Code::mismatch, "scale: shape () in the file, (4,) in the module");
}

TEST(ModuleState, OldFilesMayLackTheBatchCounter) {
  torch::nn::BatchNorm1d norm(2);
  norm->num_batches_tracked.fill_(5);
  Value state = state_dict(torch::nn::BatchNorm1d(2)).clone();
  state.erase("num_batches_tracked");
  expect_error([&] { load_state_dict(norm, state); }, Code::mismatch, "num_batches_tracked");
  Value old = state;
  old.set_attributes(Value{{"_metadata", Value{{"", Value{{"version", 1}}}}}});
  EXPECT_TRUE(load_state_dict(norm, old).complete());
  Value plain = Value::mapping(Kind::dict);
  for (const Entry& entry : state.items()) plain.set(entry.key, entry.value);
  EXPECT_TRUE(load_state_dict(norm, plain).complete());
  EXPECT_EQ(norm->num_batches_tracked.item<std::int64_t>(), 5);
}

TEST(ModuleState, AWrappersPrefixIsNamedInTheErrorAndTakenOffOnRequest) {
  Linear linear(2, 2);
  const Linear other(2, 2);
  const Value state = state_dict(other);
  Value wrapped = Value::mapping(Kind::ordered_dict);
  for (const Entry& entry : state.items()) wrapped.set("module." + entry.key.as_string(), entry.value);
  expect_error([&] { load_state_dict(linear, wrapped); }, Code::mismatch, ".strip_prefix = \"module.\"");
  EXPECT_TRUE(load_state_dict(linear, wrapped, {.strip_prefix = "module."}).complete());
  EXPECT_TRUE(same_bits(linear->weight, other->weight));
  wrapped.set("weight", torch::zeros({2, 2}));
  expect_error([&] { load_state_dict(linear, wrapped, {.strip_prefix = "module."}); }, Code::mismatch, "two entries");
}

TEST(ModuleState, ATiedNameMayBeMissingButMustNotDiffer) {
  Net net;
  const Net other;
  Value state = state_dict(other).clone();
  state.erase("tied.weight");
  EXPECT_TRUE(load_state_dict(net, state).complete());
  EXPECT_TRUE(same_bits(net->tied->weight, other->head->weight));
  state.set("tied.weight", torch::zeros({2, 4}));
  expect_error([&] { load_state_dict(net, state); }, Code::mismatch, "tied.weight", "one tensor with head.weight");
}

TEST(ModuleState, AModuleListAModuleDictAndAnLstmKeepTheirNames) {
  const torch::nn::ModuleList list(torch::nn::LSTM(1, 1), torch::nn::Embedding(2, 3));
  torch::nn::ModuleDict dict;
  dict->update({{"b", Linear(1, 1).ptr()}, {"a", list.ptr()}});
  EXPECT_EQ(keys(state_dict(dict)),
            (std::vector<std::string>{"b.weight", "b.bias", "a.0.weight_ih_l0", "a.0.weight_hh_l0", "a.0.bias_ih_l0",
                                      "a.0.bias_hh_l0", "a.1.weight"}));
}

/// A module that says itself what its state is.
struct OwnImpl : torch::nn::Module {
  Value state_dict() const { return Value{{"mine", mine}}; }
  void load_state_dict(const Value& value) { mine = value["mine"].to<int>(); }
  int mine = 3;
};
TORCH_MODULE(Own);

TEST(ModuleState, AModulesOwnStateDictIsUsedThroughAHolderToo) {
  Own own;
  EXPECT_EQ(state_dict(own), (Value{{"mine", 3}}));
  EXPECT_EQ(state_dict(*own), (Value{{"mine", 3}}));
  EXPECT_EQ(state_dict(std::as_const(own)), (Value{{"mine", 3}}));
  EXPECT_EQ(state_dict(std::as_const(*own)), (Value{{"mine", 3}}));
  load_state_dict(own, Value{{"mine", 5}});
  EXPECT_EQ(own->mine, 5);
}

TEST(ModuleState, ANameUsedTwiceIsRefused) {
  torch::nn::ModuleDict net;
  net->register_parameter("x", torch::ones({1}));
  net->register_buffer("y", torch::ones({1}));
  EXPECT_EQ(keys(state_dict(net)), (std::vector<std::string>{"x", "y"}));
  struct Twice : torch::nn::Module {
    Twice() {
      register_parameter("x", torch::ones({1}));
      parameters_.insert("a.b", torch::ones({1}));
      register_module("a", std::make_shared<Inner>());
    }
    struct Inner : torch::nn::Module {
      Inner() { register_parameter("b", torch::ones({1})); }
    };
  } twice;
  expect_error([&] { state_dict(twice); }, Code::invalid_argument, "a.b", "two parameters");
}

TEST(ModuleState, ATensorThatCannotBeSavedIsNamed) {
  Linear linear(2, 2);
  linear->register_buffer("mask", torch::eye(2).to_sparse());
  expect_error([&] { state_dict(linear); }, Code::unsupported, "mask", "Sparse");
}

TEST(ModuleState, AFileThatCannotBeReadChangesNothing) {
  Net net;
  Value state = state_dict(Net()).clone();
  state.set("head.bias", broken_tensor({2}));
  const Value before = state_dict(net).clone();
  expect_error([&] { load_state_dict(net, state); }, Code::corrupt, "head.bias", "CRC-32");
  EXPECT_EQ(state_dict(net).clone(), before);
}

TEST(ModuleState, WhatIsNoStateDictIsRefused) {
  Linear linear(1, 1);
  expect_error([&] { load_state_dict(linear, Value(3)); }, Code::mismatch, "state dict", "int");
  expect_error([&] { load_state_dict(linear, Dict{{1, 2}}); }, Code::mismatch, "strings");
  expect_error([&] { state_dict(torch::nn::AnyModule()); }, Code::invalid_argument, "LibTorch");
}

TEST(ModuleState, AHandleThatHoldsNothingIsRefused) {
  Linear holder{nullptr};
  std::shared_ptr<Linear::ContainedType> pointer;
  torch::nn::Module* raw = nullptr;
  const Value state = state_dict(Linear(1, 1));
  expect_error([&] { state_dict(holder); }, Code::invalid_argument, "no module");
  expect_error([&] { load_state_dict(holder, state); }, Code::invalid_argument, "no module");
  expect_error([&] { load_state_dict(pointer, state, {.strict = false}); }, Code::invalid_argument, "no module");
  expect_error([&] { state_dict(raw); }, Code::invalid_argument, "no module");
  torch::optim::SGD sgd({torch::ones({1})}, torch::optim::SGDOptions(0.1));
  expect_error([&] { state_dict(sgd, holder); }, Code::invalid_argument, "no module");
}

TEST(ModuleState, TensorsThatCannotBeFilledAreNamedBeforeAnythingChanges) {
  const auto refuses = [](const at::Tensor& buffer, const std::string& why) {
    Linear linear(2, 2);
    linear->register_buffer("mask", buffer);
    Value state = state_dict(Linear(2, 2)).clone();
    state.set("mask", torch::ones(buffer.sizes()));
    const at::Tensor before = linear->weight.detach().clone();
    expect_error([&] { load_state_dict(linear, state); }, Code::mismatch, "mask: " + why);
    EXPECT_TRUE(same_bits(linear->weight.detach(), before));
    EXPECT_EQ(load_state_dict(linear, state, {.strict = false}).mismatched.size(), 1U);
  };
  refuses(torch::zeros({1}).expand({5}), "expanded in the module");
  refuses(torch::eye(3).to_sparse(), "Sparse in the module");
  refuses(torch::empty({3}, torch::kMeta), "on the meta device");
  const at::Tensor inference = [] {
    const c10::InferenceMode guard;
    return torch::zeros({3});
  }();
  refuses(inference, "an inference tensor in the module");
}

}  // namespace
}  // namespace torchkeep
