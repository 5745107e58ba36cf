// SPDX-License-Identifier: BSD-3-Clause
// Every part is visited once and named; a path leads back to it.
#include <gtest/gtest.h>

#include <torchkeep/state/walk.h>

namespace torchkeep {
namespace {

std::vector<std::string> paths_of(const Value& root) {
  std::vector<std::string> paths;
  walk(root, [&](const Visit& visit) {
    paths.push_back(visit.place.text() + (visit.repeated ? " (again)" : ""));
    return Next::inside;
  });
  return paths;
}

Value sample() {
  Value model = OrderedDict{{"layer.0.weight", Tensor::of<float>({1}, {1})}, {"layer", 5}};
  model.set_attributes(Value{{"_metadata", Value()}});
  return Value{{"model", model},
               {"optimizer", Value{{"state", Dict{{0, Value{{"step", 1.0}}}, {Tuple{1, 2}, 3}}}}},
               {"list", List{1, Tuple{2}}}};
}

TEST(Walk, VisitsParentsBeforePartsInOrder) {
  EXPECT_EQ(paths_of(sample()),
            (std::vector<std::string>{"", "model", "model.layer.0.weight", "model.layer", "model.attributes",
                                      "model.attributes._metadata", "optimizer", "optimizer.state", "optimizer.state.0",
                                      "optimizer.state.0.step", "optimizer.state.<tuple>", "list", "list.0", "list.1",
                                      "list.1.0"}));
}

TEST(Walk, NamesThePartsOfSparseNestedAndUninterpretedObjects) {
  const Value leaf = Tensor::of<float>({1}, {1});
  Opaque object;
  object.args = Tuple{1};
  object.list_items = {Value("x")};
  object.dict_items = {{Value("k"), Value(2)}};
  const Value root = List{SparseTensor{.indices = leaf, .plain = {}, .values = leaf, .sizes = {1}, .is_coalesced = {}},
                          NestedTensor{leaf, leaf, leaf, leaf}, object};
  EXPECT_EQ(paths_of(root), (std::vector<std::string>{"", "0", "0.indices", "0.plain", "0.values", "1", "1.buffer",
                                                      "1.sizes", "1.strides", "1.offsets", "2", "2.args", "2.args.0",
                                                      "2.kwargs", "2.state", "2.0", "2.k"}));
}

TEST(Walk, EntersSharedContainersOnce) {
  const Value shared = List{1};
  EXPECT_EQ(paths_of(List{shared, shared, Tuple{shared}}),
            (std::vector<std::string>{"", "0", "0.0", "1 (again)", "2", "2.0 (again)"}));
}

TEST(Walk, TakesNoLongForABillionLaughs) {
  Value laughs = List{"ha"};
  for (int i = 0; i < 60; ++i) laughs = List{laughs, laughs};
  EXPECT_EQ(paths_of(laughs).size(), 122u);
}

TEST(Walk, GoesOverAndStopsAsTold) {
  std::vector<std::string> seen;
  walk(sample(), [&](const Visit& visit) {
    seen.push_back(visit.place.text());
    return visit.place.text() == "model"             ? Next::over
           : visit.place.text() == "optimizer.state" ? Next::stop
                                                     : Next::inside;
  });
  EXPECT_EQ(seen, (std::vector<std::string>{"", "model", "optimizer", "optimizer.state"}));
}

TEST(Walk, SurvivesDepthAndKeepsItsNamesShort) {
  Value deep = 1;
  for (int i = 0; i < 100'000; ++i) deep = List{deep};
  std::size_t visits = 0, longest = 0;
  walk(deep, [&](const Visit& visit) {
    ++visits;
    longest = std::max(longest, visit.place.text().size());
    return Next::inside;
  });
  EXPECT_EQ(visits, 100'001u);
  EXPECT_LT(longest, 3000u);
}

TEST(Walk, KeepsItsNamesShortHoweverLongTheKeysAre) {
  const std::string key = std::string(999, 'k') + "\u00fc and more";  // the limit is in the middle of a letter
  Value root = List{1};
  for (int i = 0; i < 6; ++i) root = Value{{key, root}};
  const std::string cut = std::string(999, 'k') + "...";
  EXPECT_EQ(paths_of(root)[1], cut);
  EXPECT_EQ(paths_of(root)[2], cut + "." + cut);
  EXPECT_EQ(paths_of(root)[7], "...." + cut + "." + cut + "." + cut + "." + cut + ".0");
  walk(root, [&](const Visit& visit) {
    const std::string whole = visit.place.depth == 2 ? key + "." + key : visit.place.name();
    EXPECT_EQ(visit.place.name(), whole);
    return Next::inside;
  });
}

TEST(FindPath, LeadsWhereTheWalkWas) {
  const Value root = sample();
  walk(root, [&](const Visit& visit) {
    const std::string path = visit.place.text();
    if (path.find("<tuple>") != std::string::npos) return Next::over;
    const auto found = find_path(root, path);
    EXPECT_TRUE(found && found->id() == visit.value.id()) << path;
    return Next::inside;
  });
}

TEST(FindPath, TakesTheLongestKeyThatLeadsToTheEnd) {
  const Value root{{"a", Value{{"b.c", 1}, {"b", Value{{"c", 2}, {"d", 3}}}}}, {"a.b", Value{{"x", 4}}}};
  EXPECT_EQ(find_path(root, "a.b.c"), Value(1));
  EXPECT_EQ(find_path(root, "a.b.d"), Value(3));
  EXPECT_EQ(find_path(root, "a.b.x"), Value(4));
  EXPECT_FALSE(find_path(root, "a.b.y"));
  EXPECT_EQ(find_path(root, "")->id(), root.id());
}

TEST(FindPath, TriesDigitsAsTextAsNumberAndAsIndex) {
  const Value root{{"list", List{10, 20}}, {"dict", Dict{{0, "int"}, {"1", "text"}, {-7, "minus"}}}};
  EXPECT_EQ(find_path(root, "list.1"), Value(20));
  EXPECT_EQ(find_path(root, "list.-1"), Value(20));
  EXPECT_FALSE(find_path(root, "list.2"));
  EXPECT_FALSE(find_path(root, "list.x"));
  EXPECT_EQ(find_path(root, "dict.0"), Value("int"));
  EXPECT_EQ(find_path(root, "dict.1"), Value("text"));
  EXPECT_EQ(find_path(root, "dict.-7"), Value("minus"));
  EXPECT_FALSE(find_path(root, "dict.00"));
}

TEST(FindSteps, TellsKeysWithDotsFromSteps) {
  const Value root{{"a", Value{{"b.c", List{1, 2}}}}, {"n", Dict{{7, 1}}}};
  const auto steps = *find_steps(root, "a.b.c.-1");
  ASSERT_EQ(steps.size(), 3u);
  EXPECT_EQ(steps[1].key, Value("b.c"));
  EXPECT_EQ(steps[2].index, 1u);
  EXPECT_EQ((*find_steps(root, "n.7"))[1].key, Value(7));
  EXPECT_TRUE(find_steps(root, "")->empty());
  EXPECT_FALSE(find_steps(root, "x"));
}

TEST(FindPath, ReportsItsPlaceInErrors) {
  const Value root = sample().from_file("a.pt");
  EXPECT_EQ(find_path(root, "optimizer.state.0.step")->key_path(), "optimizer.state.0.step");
  EXPECT_EQ(find_path(root, "optimizer.state.0.step")->where().file, "a.pt");
}

}  // namespace
}  // namespace torchkeep
