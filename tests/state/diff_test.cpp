// SPDX-License-Identifier: BSD-3-Clause
// A diff names every place that differs, and only those.
#include <gtest/gtest.h>

#include <torchkeep/state/diff.h>

#include "support/expect_error.h"

namespace torchkeep {
namespace {

Tensor floats(std::initializer_list<float> values) {
  return Tensor::of<float>({static_cast<std::int64_t>(values.size())}, values);
}

// "path: change change" for each difference.
std::vector<std::string> changes(const Value& a, const Value& b, const DiffOptions& options = {}) {
  std::vector<std::string> lines;
  for (const Difference& difference : diff(a, b, options).differences) {
    std::string line = difference.path;
    line += ':';
    for (const Change change : difference.changes) line.append(" ").append(to_string(change));
    lines.push_back(line);
  }
  return lines;
}

using Lines = std::vector<std::string>;

TEST(Diff, OfEqualValuesIsEmptyAndCountsThem) {
  const auto make = [] {
    return Value{{"model", Value{{"w", floats({1, 2})}, {"b", floats({3})}}}, {"epoch", 3}, {"none", Value()}};
  };
  const Diff found = diff(make(), make());
  EXPECT_TRUE(found.equal());
  EXPECT_EQ(found.bytes, 12u);
  ASSERT_EQ(found.parts.size(), 4u);
  EXPECT_EQ(found.parts[1].key, "model");
  EXPECT_EQ(found.parts[1].tensors, 2u);
  EXPECT_EQ(found.parts[2].leaves, 1u);
}

TEST(Diff, NamesAddedAndRemovedKeys) {
  EXPECT_EQ(changes(Value{{"a", 1}, {"b", 2}}, Value{{"b", 2}, {"c", 3}}), (Lines{"a: removed", "c: added"}));
  EXPECT_EQ(changes(List{1, 2, 3}, List{1}), (Lines{"1: removed", "2: removed"}));
}

TEST(Diff, NamesChangedLeaves) {
  const Value a{
      {"i", 1}, {"f", 0.5}, {"s", "x"}, {"b", true}, {"t", DType::float32}, {"z", std::complex<double>(1, 2)}};
  const Value b{{"i", 2},     {"f", 0.25},           {"s", "y"},
                {"b", false}, {"t", DType::float64}, {"z", std::complex<double>(1, 3)}};
  EXPECT_EQ(changes(a, b), (Lines{"i: value", "f: value", "s: value", "b: value", "t: value", "z: value"}));
  EXPECT_EQ(changes(Value{{"i", 1}}, Value{{"i", 1.0}}), (Lines{"i: kind"}));
  EXPECT_EQ(changes(Value(0.0), Value(-0.0)), (Lines{": value"}));
}

TEST(Diff, MeasuresTensorsThatDiffer) {
  const Diff found = diff(Value{{"m", Value{{"w", floats({1, 2})}}}}, Value{{"m", Value{{"w", floats({1, 2.5})}}}});
  ASSERT_EQ(found.differences.size(), 1u);
  const Difference& difference = found.differences[0];
  EXPECT_EQ(difference.path, "m.w");
  EXPECT_EQ(difference.top, "m");
  EXPECT_TRUE(difference.has(Change::elements));
  EXPECT_EQ(difference.numbers->max_absolute, 0.5);
  EXPECT_EQ(found.parts[1].tensors_differing, 1u);
}

TEST(Diff, TellsShapeAndDtypeApart) {
  EXPECT_EQ(changes(Value{{"w", floats({1, 2})}}, Value{{"w", floats({1, 2, 3})}}), (Lines{"w: shape"}));
  EXPECT_EQ(changes(Value{{"w", floats({1, 2})}}, Value{{"w", Tensor::of<double>({2}, {1, 2})}}), (Lines{"w: dtype"}));
  EXPECT_EQ(changes(Value{{"w", floats({1, 2})}}, Value{{"w", Tensor::of<double>({2}, {1, 3})}}),
            (Lines{"w: dtype elements"}));
}

TEST(Diff, SeesFlagsStridesLocationAndSharing) {
  Tensor trainable = floats({1});
  trainable.requires_grad = true;
  EXPECT_EQ(changes(Value{{"w", floats({1})}}, Value{{"w", trainable}}), (Lines{"w: flags"}));

  Tensor transposed = Tensor::of<float>({2, 2}, {1, 2, 2, 1});
  transposed.strides = {1, 2};
  EXPECT_EQ(changes(Value{{"w", Tensor::of<float>({2, 2}, {1, 2, 2, 1})}}, Value{{"w", transposed}}),
            (Lines{"w: strides"}));

  Tensor elsewhere = floats({1});
  elsewhere.storage = std::make_shared<OwnedStorage>(Bytes(elsewhere.storage->data(), 4), "cuda:0");
  EXPECT_EQ(changes(Value{{"w", floats({1})}}, Value{{"w", elsewhere}}), (Lines{"w: location"}));

  const Tensor tied = floats({1});
  EXPECT_EQ(changes(Value{{"a", tied}, {"b", tied}}, Value{{"a", floats({1})}, {"b", floats({1})}}),
            (Lines{"b: sharing"}));
}

TEST(Diff, SeesOrderKindsAndAttributes) {
  EXPECT_EQ(changes(Value{{"a", 1}, {"b", 2}}, Value{{"b", 2}, {"a", 1}}), (Lines{": order"}));
  EXPECT_EQ(changes(Value{{"a", 1}, {"x", 0}, {"b", 2}}, Value{{"a", 1}, {"b", 2}}), (Lines{"x: removed"}));
  EXPECT_EQ(changes(Value{{"d", Dict{}}}, Value{{"d", OrderedDict{}}}), (Lines{"d: kind"}));
  Value with = OrderedDict{};
  with.set_attributes(Value{{"_metadata", 1}});
  EXPECT_EQ(changes(Value{{"d", OrderedDict{}}}, Value{{"d", with}}), (Lines{"d.attributes: added"}));
}

TEST(Diff, OfContentsLeavesOutHowTheyAreHeld) {
  Tensor a = floats({1, 2});
  a.requires_grad = true;
  Value model = OrderedDict{{"b", floats({3})}, {"a", a}, {"tied", a}};
  model.set_attributes(Value{{"_metadata", 1}});
  const Value plain{{"a", floats({1, 2})}, {"b", floats({3})}, {"tied", floats({1, 2})}};
  EXPECT_EQ(changes(model, plain, {.content_only = true}), Lines{});
  EXPECT_EQ(changes(Value{{"betas", Tuple{1, 2}}}, Value{{"betas", List{1, 2}}}, {.content_only = true}), Lines{});
  EXPECT_EQ(changes(Value{{"x", 1}}, Value{{"x", true}}, {.content_only = true}), Lines{"x: kind"});
}

TEST(Diff, FollowsSharedContainersOnce) {
  const auto laughs = [](int last) {
    Value value = List{last};
    for (int i = 0; i < 60; ++i) value = List{value, value};
    return value;
  };
  EXPECT_EQ(diff(laughs(1), laughs(1)).found, 0u);
  EXPECT_EQ(diff(laughs(1), laughs(2)).found, 1u);
  EXPECT_EQ(diff(laughs(1), laughs(2), {.content_only = true}).found, 1u);
  const Value list = List{1};
  EXPECT_EQ(changes(List{list, list}, List{List{1}, List{1}}), Lines{"1: sharing"});
}

TEST(Diff, ComparesCyclesByTheirPlace) {
  const auto cycle = [](bool outer) {
    const std::uint64_t label = Value::new_label(), other = Value::new_label();
    Value inner = List{Value::back_reference(outer ? label : other)};
    inner.set_label(other);
    Value root = List{inner};
    root.set_label(label);
    return root;
  };
  EXPECT_EQ(changes(cycle(true), cycle(true)), Lines{});
  EXPECT_EQ(changes(cycle(true), cycle(false)), Lines{"0.0: sharing"});
}

TEST(Diff, ComparesSetsByMembership) {
  EXPECT_EQ(changes(Value{{"s", Set{1, 2}}}, Value{{"s", Set{2, 1}}}), Lines{});
  EXPECT_EQ(changes(Value{{"s", Set{1, 2}}}, Value{{"s", Set{2, 3}}}), (Lines{"s.0: removed", "s.1: added"}));
}

TEST(Diff, LooksIntoSparseNestedQuantizedAndUninterpretedObjects) {
  const auto sparse = [](float value, std::int64_t size) {
    return SparseTensor{
        .indices = floats({0}), .plain = {}, .values = floats({value}), .sizes = {size}, .is_coalesced = {}};
  };
  EXPECT_EQ(changes(Value{{"s", sparse(1, 3)}}, Value{{"s", sparse(2, 3)}}), Lines{"s.values: elements"});
  EXPECT_EQ(changes(Value{{"s", sparse(1, 3)}}, Value{{"s", sparse(1, 4)}}), Lines{"s: value"});
  const auto nested = [](float value) { return NestedTensor{floats({value}), floats({1}), floats({1}), floats({0})}; };
  EXPECT_EQ(changes(Value{{"n", nested(1)}}, Value{{"n", nested(2)}}), Lines{"n.buffer: elements"});
  const auto quantized = [](double scale) {
    Tensor tensor = Tensor::from_bytes(DType::qint8, {1}, as_bytes("a"));
    Quantizer quantizer;
    quantizer.scale = scale;
    tensor.quantizer = std::make_shared<Quantizer>(quantizer);
    return tensor;
  };
  EXPECT_EQ(changes(Value{{"q", quantized(1)}}, Value{{"q", quantized(2)}}), Lines{"q: quantizer"});
  const auto object = [](const char* name, int state) {
    Opaque object;
    object.module = "m", object.name = name;
    object.state = Value{{"x", state}};
    object.dict_items = {{Value("k"), Value(state)}};
    return object;
  };
  EXPECT_EQ(changes(Value{{"o", object("C", 1)}}, Value{{"o", object("C", 2)}}),
            (Lines{"o.k: value", "o.state.x: value"}));
  EXPECT_EQ(changes(Value{{"o", object("C", 1)}}, Value{{"o", object("D", 2)}}), Lines{"o: value"});
}

TEST(Diff, SkipsWhatItIsToldTo) {
  const auto make = [](int host) { return Value{{"step", 1}, {"provenance", Value{{"host", host}}}}; };
  DiffOptions options;
  options.skip = [](const Place& place) { return place.text() == "provenance"; };
  EXPECT_EQ(changes(make(1), make(2)), Lines{"provenance.host: value"});
  EXPECT_EQ(changes(make(1), make(2), options), Lines{});
}

TEST(Diff, KeepsAsManyDifferencesAsAskedForAndCountsAll) {
  Value a = Dict{}, b = Dict{};
  for (int i = 0; i < 100; ++i) a.set(i, i), b.set(i, i + 1);
  const Diff found = diff(a, b, {.max_differences = 7});
  EXPECT_EQ(found.found, 100u);
  EXPECT_EQ(found.differences.size(), 7u);
}

TEST(Diff, OfADeepValueNeedsNoDeepStack) {
  const auto deep = [](int last) {
    Value value = last;
    for (int i = 0; i < 100'000; ++i) value = List{value};
    return value;
  };
  EXPECT_EQ(diff(deep(1), deep(2)).found, 1u);
}

TEST(Diff, ReportsBytesAsTheyAreCompared) {
  std::uint64_t last = 0, total = 0;
  DiffOptions options;
  options.on_progress = [&](std::uint64_t done, std::uint64_t all) {
    EXPECT_GE(done, last);
    last = done, total = all;
  };
  const Value a{{"w", Tensor::from_bytes(DType::uint8, {3'000'000}, as_bytes(std::string(3'000'000, 'a')))}};
  const Value b{{"w", Tensor::from_bytes(DType::uint8, {3'000'000}, as_bytes(std::string(3'000'000, 'a')))}};
  EXPECT_TRUE(diff(a, b, options).equal());
  EXPECT_EQ(last, 3'000'000u);
  EXPECT_EQ(total, 3'000'000u);
}

// A storage whose bytes cannot be had.
class BrokenStorage final : public Storage {
 public:
  std::uint64_t nbytes() const noexcept override { return 4; }
  void read(std::uint64_t, MutableBytes) const override { throw Error(Code::corrupt, "wrong CRC-32"); }
};

TEST(Diff, NamesTheTensorThatCannotBeRead) {
  Tensor broken = floats({1});
  broken.storage = std::make_shared<BrokenStorage>();
  EXPECT_ERROR((diff(Value{{"a", Value{{"w", floats({1})}}}}, Value{{"a", Value{{"w", broken}}}})), Code::corrupt,
               "a.w");
}

}  // namespace
}  // namespace torchkeep
