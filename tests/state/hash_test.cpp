// SPDX-License-Identifier: BSD-3-Clause
// Hashes: known answers, and which changes a hash sees.
#include <gtest/gtest.h>
#include <set>

#include <torchkeep/state/hash.h>

namespace torchkeep {
namespace {

std::string hex(const Value& value, const HashOptions& options = {}) {
  return to_hex(hash(value, options));
}

TEST(Sha256, KnownAnswers) {
  EXPECT_EQ(to_hex(sha256(as_bytes(""))), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
  EXPECT_EQ(to_hex(sha256(as_bytes("abc"))), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
}

TEST(Sha256, OfATensorIsThatOfItsContiguousBytes) {
  Tensor tensor = Tensor::of<float>({2, 3}, {1, 2, 3, 4, 5, 6});
  EXPECT_EQ(sha256(tensor), sha256(as_bytes(tensor.contiguous_bytes())));
  std::swap(tensor.sizes[0], tensor.sizes[1]), std::swap(tensor.strides[0], tensor.strides[1]);
  EXPECT_EQ(sha256(tensor), sha256(as_bytes(tensor.contiguous_bytes())));
  EXPECT_EQ(sha256(Tensor::of<float>({0}, std::initializer_list<float>{})), sha256(Bytes()));
}

// The definition in the header, worked out by hand for {"a": 1}.
TEST(Hash, FollowsItsDefinition) {
  const auto text = [](std::string_view part) {
    std::string bytes(8, '\0');
    bytes[0] = static_cast<char>(part.size());
    return bytes + std::string(part);
  };
  const auto digest = [](const std::string& bytes) {
    const Digest result = sha256(as_bytes(bytes));
    return std::string(as_text(result));
  };
  const std::string count = {1, 0, 0, 0, 0, 0, 0, 0};
  const std::string expected =
      digest(text("dict") + count + digest(text("str") + text("a")) + digest(text("int") + text("\x01")));
  EXPECT_EQ(std::string(as_text(hash(Value{{"a", 1}}))), expected);
}

TEST(Hash, OfEqualValuesIsEqualWhateverLiesWhere) {
  const Value shared = List{1};
  EXPECT_EQ(hex(List{shared, shared}), hex(List{List{1}, List{1}}));
  Tensor transposed = Tensor::of<float>({2, 2}, {1, 3, 2, 4});
  transposed.strides = {1, 2};
  EXPECT_EQ(hex(transposed), hex(Tensor::of<float>({2, 2}, {1, 2, 3, 4})));
}

TEST(Hash, SeesEveryChangeOfContent) {
  Tensor grad = Tensor::of<float>({1}, {0});
  grad.requires_grad = true;
  Value attributed = OrderedDict{};
  attributed.set_attributes(Value{{"_metadata", 1}});
  Opaque one, two, three;
  three.name = "D";
  one.list_items = {Value(1)};
  two.dict_items = {{Value(1), Value(1)}};
  Tensor quantized = Tensor::from_bytes(DType::qint8, {1}, as_bytes("a")), rescaled = quantized;
  quantized.quantizer = std::make_shared<Quantizer>();
  Quantizer doubled;
  doubled.scale = 2;
  rescaled.quantizer = std::make_shared<Quantizer>(doubled);
  const std::vector<Value> values = {Value(),
                                     true,
                                     false,
                                     0,
                                     1,
                                     -1,
                                     256,
                                     0.0,
                                     -0.0,
                                     1.0,
                                     std::complex<double>(1, 0),
                                     "",
                                     "1",
                                     Value::bytes("1"),
                                     Value::bytes("1", Kind::bytearray),
                                     List{},
                                     Tuple{},
                                     Size{},
                                     Dict{},
                                     OrderedDict{},
                                     attributed,
                                     Set{},
                                     List{1},
                                     List{1, 2},
                                     List{List{1}, 2},
                                     List{Value(List{1, 2})},  // not List{List{1, 2}}, which clang takes for a copy
                                     Value{{"a", 1}, {"b", 2}},
                                     Value{{"b", 2}, {"a", 1}},
                                     Value{{"a", 2}, {"b", 1}},
                                     DType::float32,
                                     DType::float64,
                                     Device{"cpu"},
                                     Device{"float32"},
                                     Tensor::of<float>({1}, {0}),
                                     Tensor::of<float>({1}, {-0.0f}),
                                     Tensor::of<float>({1, 1}, {0}),
                                     Tensor::of<std::int32_t>({1}, {0}),
                                     grad,
                                     one,
                                     two,
                                     three,
                                     quantized,
                                     rescaled};
  std::set<std::string> hashes;
  for (const Value& value : values) hashes.insert(hex(value));
  EXPECT_EQ(hashes.size(), values.size());
}

TEST(Hash, OfAPartDoesNotDependOnTheWhole) {
  const Value part{{"w", Tensor::of<float>({1}, {1})}};
  const Value whole{{"model", part}, {"x", 1}};
  EXPECT_EQ(hex(whole["model"]), hex(part));
}

TEST(Hash, LeavesOutWhatIsSkipped) {
  HashOptions options;
  options.skip = [](const Place& place) { return place.text() == "provenance" || place.text() == "list.0"; };
  EXPECT_EQ(hex(Value{{"a", 1}, {"provenance", 5}, {"list", List{1, 2}}}, options),
            hex(Value{{"a", 1}, {"list", List{2}}}));
}

TEST(Hash, TakesNoLongForABillionLaughsAndNoDeepStack) {
  Value laughs = List{"ha"}, deep = 1;
  for (int i = 0; i < 60; ++i) laughs = List{laughs, laughs};
  for (int i = 0; i < 100'000; ++i) deep = Tuple{deep};
  EXPECT_NE(hex(laughs), hex(deep));
}

TEST(Hash, OfACycleDependsOnWhatItPointsTo) {
  const auto cycle = [](bool outer) {
    const std::uint64_t label = Value::new_label(), other = Value::new_label();
    Value inner = List{Value::back_reference(outer ? label : other)};
    inner.set_label(other);
    Value root = List{inner};
    root.set_label(label);
    return root;
  };
  EXPECT_EQ(hex(cycle(true)), hex(cycle(true)));
  EXPECT_NE(hex(cycle(true)), hex(cycle(false)));
}

TEST(Hash, DoesNotDependOnTheNumberOfThreads) {
  Value value = Dict{};
  for (int i = 0; i < 50; ++i) value.set(i, Tensor::of<std::int32_t>({3}, {i, 2 * i, 3}));
  EXPECT_EQ(hex(value, {.threads = 1}), hex(value, {.threads = 4}));
}

}  // namespace
}  // namespace torchkeep
