// SPDX-License-Identifier: BSD-3-Clause
// Building and reading Values, and what their errors say.
#include <gtest/gtest.h>
#include <map>
#include <thread>

#include <torchkeep/state/value.h>

namespace torchkeep {
namespace {

// The text of the Error that `action` throws.
template <class F>
std::string error_of(const F& action) {
  try {
    action();
  } catch (const Error& error) {
    return error.what();
  }
  return "no error";
}

Value example() {
  return {{"epoch", 1},
          {"loss", 0.5},
          {"name", "gpt"},
          {"done", false},
          {"nothing", none},
          {"betas", Tuple{0.9, 0.999}},
          {"nested", {{"list", List{1, 2, 3}}, {"weight", Tensor::of<float>({2}, {1, 2})}}}};
}

TEST(Value, ADictIsBuiltFromPairsAsInPython) {
  const Value value = example();
  EXPECT_TRUE(value.is(Kind::dict));
  EXPECT_EQ(value.size(), 7u);
  EXPECT_TRUE(value["epoch"].is(Kind::integer));
  EXPECT_TRUE(value["loss"].is(Kind::real));
  EXPECT_TRUE(value["name"].is(Kind::string));
  EXPECT_TRUE(value["done"].is(Kind::boolean));
  EXPECT_TRUE(value["nothing"].is_none());
  EXPECT_TRUE(value["betas"].is(Kind::tuple));
  EXPECT_TRUE(value["nested"].is(Kind::dict));
}

TEST(Value, TwoTextPairsAreADictAndNotAString) {
  const Value value{{"a", "b"}, {"c", "d"}};
  EXPECT_EQ(value["c"].to<std::string>(), "d");
  EXPECT_EQ((Value{{"a", "b"}})["a"].to<std::string>(), "b");
}

TEST(Value, NumbersConvertOnlyWhereNothingIsLost) {
  const Value value = example();
  EXPECT_EQ(value["epoch"].to<std::int64_t>(), 1);
  EXPECT_EQ(value["epoch"].to<double>(), 1.0);
  EXPECT_THROW(value["loss"].to<int>(), Error);
  EXPECT_THROW(value["done"].to<int>(), Error);
  EXPECT_THROW(value["epoch"].to<bool>(), Error);
  EXPECT_THROW(Value(300).to<std::uint8_t>(), Error);
  EXPECT_THROW(Value(-1).to<unsigned>(), Error);
  EXPECT_EQ(Value(~std::uint64_t{0}).to<std::uint64_t>(), ~std::uint64_t{0});
  EXPECT_THROW(Value(~std::uint64_t{0}).to<std::int64_t>(), Error);
}

TEST(Value, StandardTypesConvertBothWays) {
  EXPECT_EQ(Value(std::vector<int>{1, 2}).to<std::vector<int>>(), (std::vector<int>{1, 2}));
  const std::map<std::string, double> map{{"a", 1.0}, {"b", 2.0}};
  EXPECT_EQ((Value(map).to<std::map<std::string, double>>()), map);
  EXPECT_EQ((Value(std::pair(0.9, 0.99)).to<std::pair<double, double>>()), std::pair(0.9, 0.99));
  EXPECT_TRUE(Value(std::optional<int>()).is_none());
  EXPECT_EQ(Value(std::optional<int>(3)).to<std::optional<int>>(), 3);
  EXPECT_EQ(Value(Size{{2, 3}}).to<Size>().sizes, (std::vector<std::int64_t>{2, 3}));
  EXPECT_EQ(Value(DType::bfloat16).to<DType>(), DType::bfloat16);
  EXPECT_EQ(Value(Device{"cuda:0"}).to<Device>().name, "cuda:0");
}

TEST(Value, AWrongKeyNamesThePathAndWhatIsThere) {
  const Value value = example().from_file("checkpoint.pt");
  EXPECT_EQ(error_of([&] { value["nested"]["wieght"]; }),
            "checkpoint.pt: key 'nested.wieght': no such key; there are: 'list', 'weight'");
  EXPECT_EQ(error_of([&] { value["nested"]["list"]["x"]; }),
            "checkpoint.pt: key 'nested.list': expected dict, found list of 3");
  EXPECT_EQ(error_of([&] { value["nested"]["list"][3]; }),
            "checkpoint.pt: key 'nested.list': no element 3; the list has 3");
  EXPECT_EQ(error_of([&] { value["nested"]["weight"].to<double>(); }),
            "checkpoint.pt: key 'nested.weight': expected float or int, found torch.Tensor float32 [2]");
  EXPECT_EQ(error_of([&] { value["loss"].to<int>(); }), "checkpoint.pt: key 'loss': expected int, found float 0.5");
}

TEST(Value, IntegersOfEveryTypeAreIndices) {
  const Value list = List{10, 20};
  EXPECT_EQ(list[std::size_t{1}].to<int>(), 20);
  EXPECT_EQ(list[1u].to<int>(), 20);
  EXPECT_EQ(list[std::int8_t{-1}].to<int>(), 20);
  EXPECT_THROW(list[~std::uint64_t{0}], Error);
  const Value dict = Dict{{~std::uint64_t{0}, "largest"}, {-1, "minus one"}};
  EXPECT_EQ(dict[~std::uint64_t{0}].as_string(), "largest");
  EXPECT_EQ(dict[-1].as_string(), "minus one");
}

TEST(Value, ReadingNeverInserts) {
  const Value value = example();
  EXPECT_THROW(value["absent"], Error);
  EXPECT_EQ(value.size(), 7u);
  EXPECT_FALSE(value.find("absent"));
  EXPECT_EQ(value.get("absent", 7).to<int>(), 7);
}

TEST(Value, AHandleOutlivesTheValueItWasReadFrom) {
  Value inner;
  {
    const Value outer = example();
    inner = outer["nested"]["list"];
  }
  EXPECT_EQ(inner[1].to<int>(), 2);
  EXPECT_EQ(inner[-1].to<int>(), 3);
}

TEST(Value, ChangingACopyLeavesTheOriginal) {
  const Value original = example();
  Value copy = original;
  copy.set("epoch", 2);
  Value list = copy["nested"]["list"];
  list.append(4);
  EXPECT_EQ(original["epoch"].to<int>(), 1);
  EXPECT_EQ(copy["epoch"].to<int>(), 2);
  EXPECT_EQ(original["nested"]["list"].size(), 3u);
  EXPECT_EQ(list.size(), 4u);
}

TEST(Value, AValuePutIntoAnotherForgetsWhereItCameFrom) {
  const Value loaded = example().from_file("old.pt");
  Value fresh = Value::mapping(Kind::dict);
  fresh.set("part", loaded["nested"]);
  EXPECT_EQ(error_of([&] { fresh["part"]["x"]; }), "key 'part.x': no such key; there are: 'list', 'weight'");
}

TEST(Value, OnlyContainersAndTextsHaveASize) {
  EXPECT_EQ(Value("abc").size(), 3u);
  EXPECT_THROW(Value(1).size(), Error);
  EXPECT_THROW(none.size(), Error);
}

TEST(Value, DestructionOfADeepTreeDoesNotRecurse) {
  Value list = List{};
  for (int i = 0; i < 1'000'000; ++i) list = Value::sequence(Kind::list, {list});
  Value path = list;
  for (int i = 0; i < 200'000; ++i) path = path[0];
  EXPECT_TRUE(path.is(Kind::list));
}

// Memory that changes behind the Value, as a live tensor's does.
struct LiveStorage final : Storage {
  std::string bytes = "aaaabbbb";
  std::uint64_t nbytes() const noexcept override { return bytes.size(); }
  void read(std::uint64_t offset, MutableBytes out) const override {
    std::memcpy(out.data(), bytes.data() + offset, out.size());
  }
};

TEST(Value, HandlesAreCountedRightFromSeveralThreads) {
  const Value tree{{"list", List{1, 2.0, "three"}}};
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i) {
    threads.emplace_back([&tree] {
      for (int round = 0; round < 2000; ++round) {
        const std::vector<Value> copies(5, tree["list"]);
        Value changed = copies.back();
        changed.append(round);
        EXPECT_EQ(changed.size(), 4u);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_FALSE(tree.is_shared());
  EXPECT_FALSE(tree.items()[0].value.is_shared());
  EXPECT_EQ(tree["list"].size(), 3u);
}

TEST(Value, ASnapshotDoesNotFollowLiveMemoryAndKeepsSharing) {
  auto live = std::make_shared<LiveStorage>();
  Tensor tensor;
  tensor.dtype = DType::uint8;
  tensor.sizes = {4};
  tensor.strides = {1};
  tensor.storage = live;
  Tensor tail = tensor;
  tail.storage_offset = 4;
  const Value value{{"a", tensor}, {"tail", tail}};
  const Value snapshot = value.clone();
  live->bytes = "ccccdddd";
  const Value a = snapshot["a"];
  const Value b = snapshot["tail"];
  EXPECT_EQ(Value(tensor).as_tensor().contiguous_bytes(), "cccc");
  EXPECT_EQ(a.as_tensor().contiguous_bytes(), "aaaa");
  EXPECT_EQ(b.as_tensor().contiguous_bytes(), "bbbb");
  EXPECT_EQ(a.as_tensor().storage, b.as_tensor().storage);
}

struct StepCounter {
  int count = 0;
  Value state_dict() const { return {{"count", count}}; }
  void load_state_dict(const Value& state) { count = state["count"].to<int>(); }
};

TEST(Stateful, AnyObjectWithTheTwoFunctionsTakesPart) {
  StepCounter counter{7};
  const Value saved = state_dict(counter);
  StepCounter fresh;
  load_state_dict(fresh, saved);
  EXPECT_EQ(fresh.count, 7);
}

}  // namespace
}  // namespace torchkeep
