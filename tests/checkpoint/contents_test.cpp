// SPDX-License-Identifier: BSD-3-Clause
// What a checkpoint holds (sections, listing), and what becomes of it in a conversion.
#include <gtest/gtest.h>
#include <map>
#include <string>

#include <torchkeep/checkpoint/convert.h>
#include <torchkeep/checkpoint/listing.h>
#include <torchkeep/checkpoint/sections.h>
#include <torchkeep/state/walk.h>

#include "support/expect_error.h"

namespace torchkeep {
namespace {

Tensor numbers(std::vector<std::int64_t> sizes, float first = 0) {
  std::int64_t count = 1;
  for (const std::int64_t size : sizes) count *= size;
  std::vector<float> values;
  for (std::int64_t i = 0; i < count; ++i) values.push_back(first + static_cast<float>(i));
  return Tensor::of<float>(std::move(sizes), values);
}

Value optimizer() {
  return {{"state", Dict{{0, Value{{"exp_avg", numbers({2})}}}}},
          {"param_groups", List{Value{{"lr", 0.1}, {"params", List{0}}, {"param_names", List{"module.w"}}}}}};
}

Value checkpoint() {
  return {{"epoch", 3},
          {"model", Value{{"module.w", numbers({2, 2})}, {"module.b", numbers({2})}}},
          {"adam", optimizer()},
          {"scheduler", Value{{"last_epoch", 4}, {"base_lrs", List{0.1}}}},
          {"sampler", Value{{"order", "x"}, {"seed", 1}, {"position", 2}}},
          {"scaler", Value{{"scale", 2.0}, {"growth_factor", 2.0}}},
          {"rng", Value{{"torch", Tensor::of<std::uint8_t>({16}, std::vector<std::uint8_t>(16, 0))}}},
          {"metrics", Value{{"loss", 0.5}}},
          {"provenance", Value{{"host", "here"}}},
          {"args", Value{{"name", "x"}}}};
}

TEST(Sections, AreRecognisedByTheirForm) {
  std::map<std::string, Section> found;
  for (const SectionEntry& entry : sections_of(checkpoint())) found[entry.key] = entry.section;
  EXPECT_EQ(found, (std::map<std::string, Section>{{"epoch", Section::progress},
                                                   {"model", Section::model},
                                                   {"adam", Section::optimizer},
                                                   {"scheduler", Section::scheduler},
                                                   {"sampler", Section::data},
                                                   {"scaler", Section::scaler},
                                                   {"rng", Section::rng},
                                                   {"metrics", Section::metrics},
                                                   {"provenance", Section::provenance},
                                                   {"args", Section::other}}));
}

TEST(Sections, ASamplerOrLoaderOfAnyFormIsTheDataPositionByItsName) {
  const Value state{{"epoch", 1}, {"position", 3}};
  for (const char* key : {"sampler", "train_sampler_state", "dataloader", "data_loader"})
    EXPECT_EQ(section_of(key, state), Section::data) << key;
  EXPECT_EQ(section_of("upsampler", Value{{"weight", numbers({2, 2})}}), Section::model);
  EXPECT_EQ(section_of("args", state), Section::other);
}

TEST(Sections, AFileOfWeightsOrAnOptimizerAloneIsOne) {
  const auto only = [](const Value& value) {
    const auto sections = sections_of(value);
    EXPECT_EQ(sections.size(), 1u);
    EXPECT_EQ(sections[0].key, "");
    return sections[0].section;
  };
  EXPECT_EQ(only(checkpoint()["model"]), Section::model);
  EXPECT_EQ(only(optimizer()), Section::optimizer);
  EXPECT_EQ(only(numbers({3})), Section::other);
}

TEST(ListContents, CountsEverythingOnceBySectionAndDtype) {
  const Listing listing = list_contents(checkpoint());
  EXPECT_EQ(listing.totals.tensors, 4u);
  EXPECT_EQ(listing.by_dtype.at(DType::float32).nbytes, 16u + 8 + 8);
  std::uint64_t nbytes = 0, values = 0;
  for (const auto& [entry, totals] : listing.by_key) nbytes += totals.nbytes, values += totals.values;
  EXPECT_EQ(nbytes, listing.totals.nbytes);
  EXPECT_EQ(values, listing.totals.values);
}

TEST(ListContents, DepthChangesTheRowsAndNotTheTotals) {
  const Listing all = list_contents(checkpoint());
  for (std::size_t depth = 0; depth < 5; ++depth) {
    const Listing listing = list_contents(checkpoint(), {.depth = depth});
    EXPECT_EQ(listing.totals.nbytes, all.totals.nbytes) << depth;
    EXPECT_EQ(listing.totals.tensors, all.totals.tensors) << depth;
    EXPECT_LE(listing.rows.size(), all.rows.size());
  }
  EXPECT_EQ(list_contents(checkpoint(), {.depth = 0}).rows.size(), 1u);
}

TEST(SelectParts, TakesOnePartOrTheWaysToSeveral) {
  EXPECT_EQ(select_parts(checkpoint(), {"model"}), checkpoint()["model"]);
  const Value two = select_parts(checkpoint(), {"epoch", "adam.param_groups.0.lr"});
  EXPECT_EQ(two, (Value{{"epoch", 3}, {"adam", Value{{"param_groups", List{Value{{"lr", 0.1}}}}}}}));
  EXPECT_ERROR(select_parts(checkpoint(), {"nothing"}), Code::not_found, "'nothing'");
}

TEST(RenameParameters, KeepsModelMetadataAndOptimizerInStep) {
  Value state = checkpoint();
  Value model = state["model"];
  model.set_attributes(Value{{"_metadata", Value{{"", Value{{"version", 1}}}, {"module", Value{{"version", 2}}}}}});
  state.set("model", model);
  const Value renamed = rename_parameters(state, {{"module.", ""}});
  EXPECT_TRUE(renamed["model"].contains("w"));
  EXPECT_EQ(renamed["adam"]["param_groups"][0]["param_names"], (List{"w"}));
  EXPECT_EQ(renamed["model"].attributes()["_metadata"][""]["version"], 2);
  EXPECT_ERROR(rename_parameters(state, {{"module.w", "x"}, {"module.b", "x"}}), Code::mismatch, "x");
  EXPECT_ERROR(rename_parameters(state, {{"modul_", ""}}), Code::not_found, "'modul_'");
}

TEST(CastModel, ConvertsTheModelOnlyAndKeepsSharing) {
  Value state = checkpoint();
  Value model = state["model"];
  model.set("tied", model["module.w"]);
  Tensor view = model["module.w"].as_tensor();
  view.sizes = {2};
  view.strides = {2};
  view.storage_offset = 1;
  model.set("view", view);
  state.set("model", model);
  const Value cast = cast_model(state, DType::float64);
  const Tensor& whole = cast["model"]["module.w"].as_tensor();
  EXPECT_EQ(whole.to_vector<double>(), (std::vector<double>{0, 1, 2, 3}));
  EXPECT_EQ(cast["model"]["view"].as_tensor().to_vector<double>(), (std::vector<double>{1, 3}));
  EXPECT_EQ(cast["model"]["view"].as_tensor().storage->identity(), whole.storage->identity());
  EXPECT_EQ(cast["adam"], state["adam"]);
}

TEST(FlattenModule, GivesTheNamesOfAStateDict) {
  const Value archive{{"training", true},
                      {"body", Value{{"0", Value{{"weight", numbers({2})}, {"training", false}}}, {"scale", 2.0}}},
                      {"bias", numbers({1})}};
  std::vector<std::string> left_out;
  const Value state = flatten_module(archive, left_out);
  EXPECT_EQ(state.kind(), Kind::ordered_dict);
  ASSERT_EQ(state.size(), 2u);
  EXPECT_EQ(state.items()[0].key, "body.0.weight");
  EXPECT_EQ(left_out, (std::vector<std::string>{"body.scale (float 2)"}));
  EXPECT_EQ(flatten_module(optimizer(), left_out), optimizer());
}

TEST(FlattenForSafetensors, ListsAllThatHasNoPlaceThere) {
  Value state = checkpoint();
  state.set("none", Value());
  state.set("complex", Tensor::of<std::complex<double>>({1}, {{1, 2}}));
  const FlatTensors flat = flatten_for_safetensors(state);
  EXPECT_TRUE(flat.tensors.contains("adam.state.0.exp_avg"));
  const auto lists = [&](const std::string& text) {
    return std::find(flat.left_out.begin(), flat.left_out.end(), text) != flat.left_out.end();
  };
  EXPECT_TRUE(lists("epoch (int 3)"));
  EXPECT_TRUE(lists("none (None)"));
  EXPECT_EQ(flat.tensors.size() + flat.left_out.size(), list_contents(state).rows.size());
}

TEST(DropObjects, NamesThemAndLeavesTheRest) {
  Opaque object;
  object.module = "argparse";
  object.name = "Namespace";
  Value state{{"args", object}, {"list", List{Value(object), 1}}};
  EXPECT_EQ(drop_objects(state),
            (std::vector<std::string>{"args (object of argparse.Namespace)", "list.0 (object of argparse.Namespace)"}));
  EXPECT_EQ(state, (Value{{"list", List{Value(), 1}}}));
  Value whole = object;
  EXPECT_ERROR(drop_objects(whole), Code::unsupported, "argparse.Namespace");
}

}  // namespace
}  // namespace torchkeep
