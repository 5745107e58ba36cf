// SPDX-License-Identifier: BSD-3-Clause
// Dicts: Python's order, key equality and limits.
#include <gtest/gtest.h>
#include <limits>

#include <torchkeep/state/value.h>

namespace torchkeep {
namespace {

Value dict_of(std::vector<Entry> entries) {
  return Value::mapping(Kind::dict, std::move(entries));
}

TEST(Dict, KeepsInsertionOrderAndReplacesInPlace) {
  Value dict{{"b", 1}, {"a", 2}};
  dict.set("b", 3);
  dict.set("c", 4);
  ASSERT_EQ(dict.size(), 3u);
  EXPECT_EQ(dict.items()[0].key.as_string(), "b");
  EXPECT_EQ(dict["b"].to<int>(), 3);
  EXPECT_EQ(dict.items()[2].key.as_string(), "c");
}

TEST(Dict, EqualNumbersAreOneKeyAsInPython) {
  const Value dict = dict_of({{1, "int"}, {true, "bool"}, {1.0, "float"}, {std::complex<double>(1, 0), "complex"}});
  ASSERT_EQ(dict.size(), 1u);
  EXPECT_TRUE(dict.items()[0].key.is(Kind::integer));
  EXPECT_EQ(dict[1].as_string(), "complex");
  const Value big = dict_of({{Integer::from_decimal("1267650600228229401496703205376"), "int"},
                             {1267650600228229401496703205376.0, "float"}});
  EXPECT_EQ(big.size(), 1u);
  EXPECT_EQ(dict_of({{0.0, 1}, {-0.0, 2}}).size(), 1u);
  EXPECT_EQ(dict_of({{1.5, 1}, {1, 2}, {"1", 3}, {ByteString{"1"}, 4}}).size(), 4u);
}

TEST(Dict, ARepeatedKeyKeepsItsFirstPlaceAndItsLastValueAtEverySize) {
  for (const int distinct : {1, 7, 8, 9, 100}) {
    std::vector<Entry> entries;
    Value one_by_one = Value::mapping(Kind::dict);
    for (int i = 0; i < 3 * distinct; ++i) {
      const Value key = i % 2 == 0 ? Value(i % distinct) : Value::string(std::to_string(i % distinct));
      entries.push_back({key, i});
      one_by_one.set(key, i);
    }
    Value at_once = dict_of(entries);
    EXPECT_TRUE(at_once == one_by_one) << distinct;
    for (const Entry& entry : one_by_one.items()) EXPECT_TRUE(at_once.at(entry.key) == entry.value) << distinct;
    at_once.set("new", 1);
    EXPECT_TRUE(at_once.erase(0));
    EXPECT_EQ(at_once.size(), one_by_one.size());
    EXPECT_EQ(at_once["new"].to<int>(), 1);
  }
}

// Before, each of these was compared with thousands of others, and 4,096 that collide are refused.
TEST(Dict, NumbersThatShareTheirLowBitsOrTheirRemainderAreFoundAtOnce) {
  constexpr std::int64_t kCount = 30'000;
  for (const std::int64_t factor : {std::int64_t{1} << 48, std::int64_t{1} << 32, (std::int64_t{1} << 48) - 1}) {
    std::vector<Entry> entries;
    for (std::int64_t i = 0; i < kCount; ++i) entries.push_back({i * factor, i});
    const Value dict = dict_of(std::move(entries));
    EXPECT_EQ(dict.size(), static_cast<std::size_t>(kCount));
    EXPECT_EQ(dict.at(factor * 77).to<int>(), 77);
  }
  std::vector<Entry> large;
  const std::string zeros(20, '0');
  for (int i = 1; i <= 10'000; ++i) large.push_back({Integer::from_decimal(std::to_string(i) + zeros), i});
  EXPECT_EQ(dict_of(large).at(Integer::from_decimal("9999" + zeros)).to<int>(), 9999);
}

TEST(Dict, SetsOfOneSizeAreFoundAtOnce) {
  std::vector<Entry> entries;
  const auto set_of = [](int i) { return Value::sequence(Kind::frozenset, {Value(i), Value("x"), Value(-i)}); };
  for (int i = 1; i <= 10'000; ++i) entries.push_back({set_of(i), i});
  const Value dict = dict_of(std::move(entries));
  EXPECT_EQ(dict.at(set_of(1234)).to<int>(), 1234);
  EXPECT_EQ(dict.at(Value::sequence(Kind::frozenset, {Value("x"), Value(-7), Value(7)})).to<int>(), 7);
}

TEST(Dict, ALongKeyThatManyDictsShareIsHashedOnce) {
  const Value key = std::string(std::size_t{1} << 20, 'k');
  for (std::int64_t i = 0; i < 100'000; ++i) {
    Value dict = Value::mapping(Kind::dict);  // 100 GB of hashing, were each to do it again
    dict.set(key, i);
    EXPECT_EQ(dict.find(key)->to<std::int64_t>(), i);
  }
}

TEST(Dict, NaNKeysAreDistinctUnlessTheyAreOneObject) {
  const Value nan = std::numeric_limits<double>::quiet_NaN();
  EXPECT_EQ(dict_of({{nan, 1}, {nan, 2}}).size(), 1u);
  EXPECT_EQ(dict_of({{nan, 1}, {std::numeric_limits<double>::quiet_NaN(), 2}}).size(), 2u);
}

TEST(Dict, TuplesAndSizesAreEqualKeys) {
  const Value dict = dict_of({{Tuple{1, Tuple{2, "x"}}, "tuple"}, {Tuple{1, 2}, "pair"}});
  EXPECT_EQ(dict.at(Tuple{1, Tuple{2, "x"}}).as_string(), "tuple");
  EXPECT_EQ(dict.at(Size{{1, 2}}).as_string(), "pair");
  EXPECT_FALSE(dict.contains(Tuple{1, 3}));
}

TEST(Dict, RefusesUnhashableKeys) {
  Value dict{{"a", 1}};
  EXPECT_THROW(dict.set(List{1}, 2), Error);
  EXPECT_THROW(dict.set(Tuple{1, List{}}, 2), Error);
  EXPECT_THROW(dict.set(Value{{"x", 1}}, 2), Error);
}

TEST(Dict, FindsEachOfManyKeysAndErasesAny) {
  Value dict = Value::mapping(Kind::dict);
  for (int i = 0; i < 5000; ++i) dict.set(i % 2 == 0 ? Value(i) : Value("key" + std::to_string(i)), i);
  ASSERT_EQ(dict.size(), 5000u);
  for (int i = 0; i < 5000; i += 7)
    EXPECT_EQ(dict.at(i % 2 == 0 ? Value(i) : Value("key" + std::to_string(i))).to<int>(), i);
  EXPECT_TRUE(dict.erase(100));
  EXPECT_FALSE(dict.erase(100));
  EXPECT_FALSE(dict.contains(100));
  EXPECT_EQ(dict[102].to<int>(), 102);
  EXPECT_EQ(dict.size(), 4999u);
}

TEST(Dict, AddressesAsKeysDoNotCollide) {
  Value dict = Value::mapping(Kind::dict);
  for (std::int64_t i = 0; i < 20000; ++i) dict.set(i << 32, i);
  EXPECT_EQ(dict[std::int64_t{777} << 32].to<int>(), 777);
}

TEST(Dict, AKeyNestedDeeplyIsHashedWithoutRecursion) {
  Value key = Tuple{1};
  for (int i = 0; i < 60000; ++i) key = Value::sequence(Kind::tuple, {key});
  const Value dict = dict_of({{key, "deep"}});
  EXPECT_EQ(dict.at(key).as_string(), "deep");
}

TEST(Dict, AKeyThatUnfoldsToBillionsOfPartsIsRefused) {
  Value key = Tuple{1};
  for (int i = 0; i < 40; ++i) key = Value::sequence(Kind::tuple, {key, key});
  EXPECT_THROW(dict_of({{key, 1}}), Error);
}

TEST(Set, RefusesTheSameElementTwice) {
  EXPECT_THROW(Value(Set{1, 1.0}), Error);
  EXPECT_EQ(Value(Set{1, 2, "2"}).size(), 3u);
}

}  // namespace
}  // namespace torchkeep
