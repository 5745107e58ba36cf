// SPDX-License-Identifier: BSD-3-Clause
// Rewriting changes what it is told to and nothing else.
#include <gtest/gtest.h>

#include <torchkeep/state/rewrite.h>

#include "support/expect_error.h"

namespace torchkeep {
namespace {

using What = Edit::What;

Value drop(const Value& root, const std::string& path) {
  return rewrite(root, [&](const Visit& visit) { return Edit{visit.place.text() == path ? What::drop : What::keep}; });
}

Value replace(const Value& root, const std::string& path, const Value& value) {
  return rewrite(root, [&](const Visit& visit) {
    return visit.place.text() == path ? Edit{What::replace, value} : Edit{};
  });
}

TEST(Rewrite, WithoutEditsIsTheSameNode) {
  const Value root{{"a", List{1, Tuple{2}}}, {"b", Tensor::of<float>({1}, {1})}};
  EXPECT_EQ(rewrite(root, [](const Visit&) { return Edit{}; }).id(), root.id());
  EXPECT_EQ(rewrite(Value(5), [](const Visit&) { return Edit{What::drop}; }), Value(5));
}

TEST(Rewrite, SharesWhatDidNotChange) {
  const Value root{{"a", List{1}}, {"b", List{2}}};
  const Value changed = replace(root, "b.0", 3);
  EXPECT_EQ(changed, (Value{{"a", List{1}}, {"b", List{3}}}));
  EXPECT_EQ(changed["a"].id(), root["a"].id());
  EXPECT_EQ(root["b"], Value(List{2}));
}

TEST(Rewrite, DropsEntriesAndLeavesNoneWhereThePositionCounts) {
  EXPECT_EQ(drop(Value{{"a", 1}, {"b", 2}}, "a"), (Value{{"b", 2}}));
  EXPECT_EQ(drop(List{1, 2, 3}, "1"), Value(List{1, Value(), 3}));
  EXPECT_EQ(drop(Value{{"t", Tuple{1, 2}}}, "t.0"), (Value{{"t", Tuple{Value(), 2}}}));
}

TEST(Rewrite, KeepsKindsAttributesAndLabels) {
  Value model = OrderedDict{{"w", 1}, {"b", 2}};
  model.set_attributes(Value{{"_metadata", 7}});
  model.set_label(Value::new_label());
  const Value changed = drop(Value{{"m", model}}, "m.b")["m"];
  EXPECT_EQ(changed.kind(), Kind::ordered_dict);
  EXPECT_EQ(changed.attributes()["_metadata"], Value(7));
  EXPECT_EQ(changed.label(), model.label());
  EXPECT_TRUE(drop(model, "attributes").attributes().is_none());
  EXPECT_EQ(replace(model, "attributes._metadata", 8).attributes()["_metadata"], Value(8));
}

TEST(Rewrite, GoesIntoSparseNestedAndUninterpretedObjects) {
  const Value leaf = Tensor::of<float>({1}, {1}), other = Tensor::of<float>({1}, {2});
  const Value sparse = SparseTensor{.indices = leaf, .plain = {}, .values = leaf, .sizes = {1}, .is_coalesced = true};
  EXPECT_EQ(replace(List{sparse}, "0.values", other)[0].as_sparse_tensor().values, other);
  EXPECT_EQ(replace(List{sparse}, "0.values", other)[0].as_sparse_tensor().is_coalesced, true);
  EXPECT_EQ(replace(List{NestedTensor{leaf, leaf, leaf, leaf}}, "0.offsets", other)[0].as_nested_tensor().offsets,
            other);
  Opaque object;
  object.name = "C", object.args = Tuple{1}, object.state = Value{{"x", 1}};
  object.list_items = {Value(5)}, object.dict_items = {{Value("k"), Value(6)}};
  const Value changed = rewrite(List{object}, [](const Visit& visit) {
    const std::string path = visit.place.text();
    if (path == "0.state.x" || path == "0.0") return Edit{What::replace, 9};
    return Edit{path == "0.k" ? What::drop : What::keep};
  });
  const Value kept = changed[0];
  EXPECT_EQ(kept.as_opaque().state["x"], Value(9));
  EXPECT_EQ(kept.as_opaque().list_items[0], Value(9));
  EXPECT_TRUE(kept.as_opaque().dict_items.empty());
  EXPECT_EQ(kept.as_opaque().name, "C");
}

TEST(Rewrite, KeepsSharingAndAsksOnlyOnceInside) {
  const Value shared = List{1};
  int asked = 0;
  const Value changed = rewrite(List{shared, shared, Tuple{shared}}, [&](const Visit& visit) {
    if (!visit.value.is(Kind::integer)) return Edit{};
    ++asked;
    return Edit{What::replace, 2};
  });
  EXPECT_EQ(asked, 1);
  EXPECT_EQ(changed[0], Value(List{2}));
  EXPECT_EQ(changed[0].id(), changed[1].id());
  EXPECT_EQ(changed[0].id(), changed[2][0].id());
}

TEST(Rewrite, RenamesKeysAndRefusesTwoOfOneName) {
  const Value root{{"m", Value{{"module.w", 1}, {"b", 2}}}};
  const auto rename = [&](const char* to) {
    return rewrite(root, [&](const Visit& visit) {
      Edit edit;
      if (visit.place.step.text() == "module.w") edit.key = Value(to);
      return edit;
    });
  };
  EXPECT_EQ(rename("w"), (Value{{"m", Value{{"w", 1}, {"b", 2}}}}));
  EXPECT_ERROR(rename("b"), Code::mismatch, "key 'm': two entries would get the key 'b'");
}

TEST(Rewrite, NeedsNoDeepStack) {
  Value deep = 1;
  for (int i = 0; i < 100'000; ++i) deep = List{deep};
  const Value changed = rewrite(deep, [](const Visit& visit) {
    return visit.value.is(Kind::integer) ? Edit{What::replace, 2} : Edit{};
  });
  EXPECT_NE(changed.id(), deep.id());
}

}  // namespace
}  // namespace torchkeep
