// SPDX-License-Identifier: BSD-3-Clause
// Whole pickled modules as state dicts, parts of a checkpoint, and checkpoints inside a zip.
#include <gtest/gtest.h>

#include <torchkeep/checkpoint/checkpoint.h>
#include <torchkeep/checkpoint/convert.h>

#include "support/expect_error.h"
#include "support/temp_dir.h"

namespace torchkeep {
namespace {

Value tensor(float first) {
  Tensor tensor = Tensor::of<float>({2}, {first, first + 1});
  tensor.is_parameter = tensor.requires_grad = true;
  return tensor;
}

Value object(std::string module, std::string name, Value state) {
  Opaque opaque;
  opaque.module = std::move(module);
  opaque.name = std::move(name);
  opaque.form = Opaque::Form::newobj;
  opaque.args = Value::sequence(Kind::tuple, {});
  opaque.state = std::move(state);
  return opaque;
}

Value module(Value parameters, Value buffers, Value modules) {
  return object("my.net", "Net",
                Value{{"training", true}, {"_parameters", parameters}, {"_buffers", buffers}, {"_modules", modules}});
}

std::vector<std::string> names(const Value& state) {
  std::vector<std::string> names;
  for (const Entry& entry : state.items()) names.push_back(entry.key.as_string());
  return names;
}

const Value kNothing = Value::mapping(Kind::dict);

TEST(Modules, AreFlattenedWithPyTorchsNamesInItsOrder) {
  const Value inner = module(Value{{"weight", tensor(1)}, {"bias", Value()}}, Value{{"mean", tensor(3)}}, kNothing);
  const Value outer =
      module(Value{{"scale", tensor(5)}}, kNothing, Value{{"a", inner}, {"gone", Value()}, {"b", inner}});
  const Value state = state_dict_of(outer);
  EXPECT_EQ(names(state), (std::vector<std::string>{"scale", "a.weight", "a.mean", "b.weight", "b.mean"}));
  EXPECT_FALSE(state["a.weight"].as_tensor().is_parameter);
  EXPECT_FALSE(state["a.weight"].as_tensor().requires_grad);
  EXPECT_EQ(state["a.weight"].as_tensor().storage, state["b.weight"].as_tensor().storage);
}

TEST(Modules, LeaveOutTheBuffersThatTheyDoNotSave) {
  Value one = module(kNothing, Value{{"kept", tensor(1)}, {"dropped", tensor(2)}}, kNothing);
  Opaque changed = one.as_opaque();
  changed.state.set("_non_persistent_buffers_set", Value::sequence(Kind::set, {"dropped"}));
  EXPECT_EQ(names(state_dict_of(changed)), (std::vector<std::string>{"kept"}));
}

TEST(Modules, AreReplacedWhereverTheyStand) {
  const Value checkpoint{{"epoch", 3}, {"model", module(Value{{"w", tensor(1)}}, kNothing, kNothing)}};
  EXPECT_FALSE(is_module(checkpoint));
  const Value flat = flatten_modules(checkpoint);
  EXPECT_EQ(flat["epoch"].to<int>(), 3);
  EXPECT_EQ(names(flat["model"]), (std::vector<std::string>{"w"}));
}

TEST(Modules, ThatHoldSomethingElseAreAnErrorWithItsName) {
  EXPECT_ERROR(state_dict_of(module(kNothing, kNothing, Value{{"head", 3}})), Code::unsupported,
               "submodule 'head' is a int");
  EXPECT_ERROR(state_dict_of(kNothing), Code::mismatch, "a pickled torch.nn.Module");
  EXPECT_FALSE(is_module(object("my", "Config", Value{{"_parameters", kNothing}})));
}

TEST(Modules, ThatContainThemselvesOrDoubleAreRefused) {
  Value doubled = module(Value{{"w", tensor(1)}}, kNothing, kNothing);
  for (int i = 0; i < 40; ++i) doubled = module(kNothing, kNothing, Value{{"a", doubled}, {"b", doubled}});
  EXPECT_ERROR(state_dict_of(doubled), Code::refused, "more than 1048576");
  Value deep = module(kNothing, kNothing, kNothing);
  for (int i = 0; i < 5000; ++i) deep = module(kNothing, kNothing, Value{{"a", deep}});
  EXPECT_ERROR(state_dict_of(deep), Code::refused, "name of more than");
}

// --- Objects left out, parts chosen

TEST(DropObjects, TakesEntriesWhoseKeyIsOrHoldsOne) {
  Opaque name;
  name.module = "my";
  name.name = "Callback";
  name.form = Opaque::Form::global;
  Value checkpoint{{"w", tensor(1)}, {"callbacks", kNothing}};
  Value callbacks = Value::mapping(Kind::dict);
  callbacks.set(Value(name), 1);
  callbacks.set(Value(Tuple{name, 1}), 2);
  callbacks.set("plain", 3);
  checkpoint.set("callbacks", callbacks);
  const std::vector<std::string> dropped = drop_objects(checkpoint);
  EXPECT_EQ(dropped, (std::vector<std::string>{"callbacks.<my.Callback> (object of my.Callback)",
                                               "callbacks.<tuple> (object of my.Callback)"}));
  EXPECT_TRUE(checkpoint["callbacks"] == (Value{{"plain", 3}}));
}

TEST(Load, ReadsOnlyThePartsThatAreAskedFor) {
  const testing::TempDir folder;
  const std::string path = folder.path() + "/a.pt";
  save(Value{{"model", Value{{"w", tensor(1)}}}, {"other", tensor(7)}}, path);
  const Value part = load(path, {.only = {"model.w"}});
  EXPECT_EQ(names(part), (std::vector<std::string>{"model"}));
  EXPECT_EQ(part["model"]["w"].as_tensor().contiguous_bytes().size(), 8u);
  EXPECT_ERROR(load(path, {.only = {"model", "nothing"}}), Code::not_found, "no part called 'nothing'");
}

TEST(Load, OpensACheckpointInsideAZip) {
  const testing::TempDir folder;
  const std::string path = folder.path() + "/a.pt";
  save(Value{{"n", 3}}, path);
  // A file of torch.save is a zip too, and its pickle a file that can be opened by itself.
  EXPECT_TRUE(load(path + "::archive/data.pkl") == (Value{{"n", 3}}));
  EXPECT_ERROR(load(path + "::nothing"), Code::not_found, "it has: archive/data.pkl");
  EXPECT_ERROR(load(folder.path() + "/none.zip::x"), Code::not_found, "none.zip");
}

}  // namespace
}  // namespace torchkeep
