// SPDX-License-Identifier: BSD-3-Clause
// Equality means bits, types, order and sharing.
#include <bit>
#include <gtest/gtest.h>

#include <torchkeep/state/value.h>

namespace torchkeep {
namespace {

TEST(Equality, ComparesBitsOfNumbers) {
  const double quiet = std::bit_cast<double>(0x7ff8000000000001ull);
  const double other = std::bit_cast<double>(0x7ff8000000000002ull);
  EXPECT_EQ(Value(quiet), Value(quiet));
  EXPECT_NE(Value(quiet), Value(other));
  EXPECT_NE(Value(0.0), Value(-0.0));
  EXPECT_NE(Value(1), Value(1.0));
  EXPECT_NE(Value(1), Value(true));
}

TEST(Equality, ComparesOrderAndKindsOfContainers) {
  EXPECT_NE((Value{{"a", 1}, {"b", 2}}), (Value{{"b", 2}, {"a", 1}}));
  EXPECT_NE(Value(List{1}), Value(Tuple{1}));
  EXPECT_NE(Value(Dict{}), Value(OrderedDict{}));
  EXPECT_EQ(Value(Dict{{1, List{2}}}), Value(Dict{{1, List{2}}}));
}

TEST(Equality, ComparesEveryPropertyOfATensor) {
  const auto differs = [](auto change) {
    Tensor other = Tensor::of<float>({2}, {1, 2});
    change(other);
    return !(Value(Tensor::of<float>({2}, {1, 2})) == Value(other));
  };
  EXPECT_FALSE(differs([](Tensor&) {}));
  EXPECT_TRUE(differs([](Tensor& t) { t.requires_grad = true; }));
  EXPECT_TRUE(differs([](Tensor& t) { t.is_parameter = true; }));
  EXPECT_TRUE(differs([](Tensor& t) { t.is_neg = true; }));
  EXPECT_TRUE(differs([](Tensor& t) { t.strides = {0}; }));
  EXPECT_TRUE(differs([](Tensor& t) { t.sizes = {1}; }));
  EXPECT_TRUE(differs([](Tensor& t) { t.dtype = DType::int32; }));
  EXPECT_TRUE(differs([](Tensor& t) { t = Tensor::of<float>({2}, {1, 3}); }));
  EXPECT_TRUE(
      differs([](Tensor& t) { t.storage = std::make_shared<OwnedStorage>(Bytes(t.storage->data(), 8), "cuda:0"); }));
}

TEST(Equality, SharingOfStoragesCounts) {
  const Tensor one = Tensor::of<float>({1}, {1});
  const Tensor twin = Tensor::of<float>({1}, {1});
  const Value shared{{"a", one}, {"b", one}};
  const Value apart{{"a", one}, {"b", twin}};
  EXPECT_NE(shared, apart);
  EXPECT_NE(apart, shared);
  EXPECT_EQ(shared, (Value{{"a", twin}, {"b", twin}}));
}

TEST(Equality, SharingOfContainersCountsButNotOfTuples) {
  const Value list = List{1};
  EXPECT_NE(Value(List{list, list}), Value(List{List{1}, List{1}}));
  const Value tuple = Tuple{1};
  EXPECT_EQ(Value(List{tuple, tuple}), Value(List{Tuple{1}, Tuple{1}}));
}

TEST(Equality, VisitsEveryPairOnceHoweverOftenItIsShared) {
  Value a = Tuple{1};
  Value b = Tuple{1};
  for (int i = 0; i < 60; ++i) {
    a = Value::sequence(Kind::tuple, {a, a});
    b = Value::sequence(Kind::tuple, {b, b});
  }
  EXPECT_EQ(a, b);
}

TEST(Equality, EqualityAndClonesAreIterative) {
  Value a = List{};
  Value b = List{};
  for (int i = 0; i < 300'000; ++i) {
    a = Value::sequence(Kind::list, {a});
    b = Value::sequence(Kind::list, {b});
  }
  EXPECT_EQ(a, b);
  EXPECT_EQ(a.clone(), b);
}

Value cycle() {
  const std::uint64_t label = Value::new_label();
  Value list = List{Value::back_reference(label), 1};
  list.set_label(label);
  return list;
}

TEST(Equality, BackReferencesAreEqualWhenTheyPointToTheSamePlace) {
  EXPECT_EQ(cycle(), cycle());
  const Value unlabelled = List{Value::back_reference(Value::new_label()), 1};
  EXPECT_NE(cycle(), unlabelled);
}

TEST(Equality, AttributesCount) {
  const Value a = OrderedDict{{"x", 1}};
  Value b = a;
  b.set_attributes({{"_metadata", Dict{}}});
  EXPECT_NE(a, b);
  EXPECT_TRUE(a.attributes().is_none());
}

}  // namespace
}  // namespace torchkeep
