// SPDX-License-Identifier: BSD-3-Clause
// The states every format is tried on.
#include "support/conformance.h"

#include <bit>
#include <cmath>
#include <limits>

#include <torchkeep/state/dtype.h>

namespace torchkeep::testing {
namespace {

// Bytes without a pattern that a wrong offset or order would leave unchanged.
std::string noise(std::size_t size, std::uint32_t seed = 1) {
  std::string bytes(size, '\0');
  std::uint32_t x = seed * 2654435761u + 1;
  for (char& byte : bytes) {
    x ^= x << 13, x ^= x >> 17, x ^= x << 5;
    byte = static_cast<char>(x);
  }
  return bytes;
}

std::string bytes_for(DType dtype, std::size_t count, std::uint32_t seed = 1) {
  std::string bytes = noise(count * itemsize(dtype), seed);
  if (dtype == DType::boolean) {
    for (char& byte : bytes) byte &= 1;
  }
  return bytes;
}

Tensor make(DType dtype, std::vector<std::int64_t> sizes, std::uint32_t seed = 1) {
  std::size_t count = 1;
  for (const std::int64_t size : sizes) count *= static_cast<std::size_t>(size);
  return Tensor::from_bytes(dtype, std::move(sizes), as_bytes(bytes_for(dtype, count, seed)));
}

Tensor view(const Tensor& base, std::vector<std::int64_t> sizes, std::vector<std::int64_t> strides,
            std::int64_t offset = 0) {
  Tensor tensor = base;
  tensor.sizes = std::move(sizes);
  tensor.strides = std::move(strides);
  tensor.storage_offset = offset;
  return tensor;
}

Tensor parameter(Tensor tensor, bool requires_grad = true) {
  tensor.is_parameter = true;
  tensor.requires_grad = requires_grad;
  return tensor;
}

Tensor as_dtype(const Tensor& base, DType dtype, std::int64_t count) {
  Tensor tensor = base;
  tensor.dtype = dtype;
  tensor.sizes = {count};
  tensor.strides = {1};
  tensor.storage_offset = 0;
  return tensor;
}

Value list_of(std::size_t count) {
  std::vector<Value> values;
  for (std::size_t i = 0; i < count; ++i) values.push_back(Value(i));
  return Value::sequence(Kind::list, std::move(values));
}

Value mapping_of(Kind kind, std::size_t count) {
  std::vector<Entry> entries;
  for (std::size_t i = 0; i < count; ++i) entries.push_back({Value(i * 7), Value::string("v" + std::to_string(i))});
  return Value::mapping(kind, std::move(entries));
}

Value with_attributes(Value value, const Value& attributes) {
  value.set_attributes(attributes);
  return value;
}

Value labelled(Value value, std::uint64_t label) {
  value.set_label(label);
  return value;
}

void add_numbers(std::vector<NamedState>& states) {
  List integers;
  for (const char* digits : {"0",
                             "1",
                             "255",
                             "256",
                             "65535",
                             "65536",
                             "2147483647",
                             "2147483648",
                             "4294967295",
                             "-1",
                             "-128",
                             "-129",
                             "-2147483648",
                             "-2147483649",
                             "9223372036854775807",
                             "9223372036854775808",
                             "-9223372036854775808",
                             "-9223372036854775809",
                             "18446744073709551615",
                             "340282366920938463463374607431768211455"}) {
    integers.elements.push_back(Integer::from_decimal(digits));
  }
  integers.elements.push_back(Integer::from_twos_complement(std::string(254, '\x5a')));
  integers.elements.push_back(Integer::from_twos_complement(std::string(254, '\x01') + '\x80'));
  states.push_back({"integers", integers});
  List reals;
  for (const double value :
       {0.0, -0.0, 1.0, -1.5, 0.1, std::numeric_limits<double>::infinity(), -std::numeric_limits<double>::infinity(),
        std::numeric_limits<double>::denorm_min(), std::numeric_limits<double>::max(),
        std::bit_cast<double>(std::uint64_t{0x7ff8000000000000}),
        std::bit_cast<double>(std::uint64_t{0xfff8dead0000beef})}) {
    reals.elements.push_back(value);
  }
  states.push_back({"reals", reals});
  states.push_back({"complex", List{std::complex<double>(1, -2), std::complex<double>(-0.0, 0.0),
                                    std::complex<double>(std::nan(""), -INFINITY)}});
  states.push_back({"booleans", List{true, false, none}});
}

void add_texts(std::vector<NamedState>& states) {
  states.push_back({"strings", List{"", "a", "exp_avg", "exp_avg", "Grüße", "日本語", "\xf0\x9f\x98\x80",
                                    "\xed\xb0\x80", std::string("a\0b", 3), "line\nend", std::string(255, 'x'),
                                    std::string(256, 'y'), std::string(257, 'z'), std::string(257, 'z')}});
  std::string all;
  for (int i = 0; i < 256; ++i) all += static_cast<char>(i);
  states.push_back({"bytes", List{Value::bytes(""), Value::bytes("abc"), Value::bytes(all), Value::bytes(all + all)}});
  states.push_back({"bytearrays", List{Value::bytes("", Kind::bytearray), Value::bytes(all, Kind::bytearray)}});
  states.push_back({"non_ascii_keys", Value{{"Größe", 1}, {"重み", 2}, {"", 3}, {"a.b", 4}, {"a\nb", 5}}});
}

void add_containers(std::vector<NamedState>& states) {
  states.push_back({"none", none});
  states.push_back({"number", 7});
  states.push_back({"empty_dict", Value::mapping(Kind::dict)});
  states.push_back({"empty_containers", List{List{}, Tuple{}, Value::mapping(Kind::dict), OrderedDict{},
                                             Value::mapping(Kind::counter), Set{}, Size{}}});
  for (const std::size_t count : {1, 2, 3, 4, 5, 999, 1000, 1001, 1999, 2000, 2001}) {
    const std::string suffix = "_of_" + std::to_string(count);
    states.push_back({"list" + suffix, list_of(count)});
    states.push_back({"dict" + suffix, mapping_of(Kind::dict, count)});
    states.push_back({"ordered_dict" + suffix, mapping_of(Kind::ordered_dict, count)});
    const Value list = list_of(count);
    const auto elements = list.elements();
    states.push_back({"tuple" + suffix, Value::sequence(Kind::tuple, {elements.begin(), elements.end()})});
    states.push_back({"set" + suffix, Value::sequence(Kind::set, {elements.begin(), elements.end()})});
  }
  states.push_back({"keys", Dict{{0, "int"},
                                 {"0", "str"},
                                 {2.5, "float"},
                                 {none, "None"},
                                 {Value::bytes("k"), "bytes"},
                                 {Tuple{1, "a", Tuple{}}, "tuple"},
                                 {std::complex<double>(0, 1), "complex"},
                                 {DType::float32, "dtype"},
                                 {Device{"cpu"}, "device"},
                                 {Size{{1, 2}}, "Size"},
                                 {Integer::from_decimal("99999999999999999999"), "big"}}});
  states.push_back({"sizes", List{Size{{}}, Size{{1}}, Size{{2, 3}}, Size{{1, 2, 3, 4, 5000000000}}}});
  states.push_back({"counter", Value::mapping(Kind::counter, {{"a", 3}, {"b", 1}})});
  states.push_back({"devices", List{Device{"cpu"}, Device{"cuda:0"}, Device{"cuda"}, Device{"mps"}, Device{"meta"}}});
  List dtypes;
  for (const DTypeInfo& row : all_dtypes()) dtypes.elements.push_back(row.dtype);
  states.push_back({"dtypes", dtypes});
  const Value versions = OrderedDict{{"", Value{{"version", 1}}}, {"bn", Value{{"version", 2}}}};
  states.push_back({"metadata", with_attributes(OrderedDict{{"w", 1}, {"b", 2}}, Value{{"_metadata", versions}})});
  states.push_back({"metadata_of_empty", with_attributes(OrderedDict{}, Value{{"_metadata", versions}, {"x", 1}})});
}

void add_sharing(std::vector<NamedState>& states) {
  const Value list = List{1, 2};
  states.push_back({"shared_list", Value{{"a", list}, {"b", list}, {"c", List{1, 2}}}});
  const Value pair = Tuple{list, list};
  states.push_back({"shared_tuple", List{pair, pair, Tuple{pair}}});
  const Value weight = make(DType::float32, {2, 2});
  states.push_back({"shared_tensor", Value{{"a", weight}, {"b", weight}}});
  const Value tied = parameter(make(DType::float32, {3}));
  states.push_back({"shared_parameter", Value{{"encoder", Value{{"w", tied}}}, {"decoder", Value{{"w", tied}}}}});

  const std::uint64_t self = Value::new_label();
  states.push_back({"list_in_itself", labelled(List{1, Value::back_reference(self), 2}, self)});
  const std::uint64_t dict = Value::new_label();
  states.push_back({"dict_in_itself", labelled(Value{{"me", Value::back_reference(dict)}}, dict)});
  const std::uint64_t outer = Value::new_label();
  const Value inner = Value{{"parent", Value::back_reference(outer)}, {"x", 1}};
  states.push_back(
      {"cycle_of_two", Value{{"root", labelled(Value{{"a", inner}, {"b", inner}}, outer)}, {"inner", inner}}});
  const std::uint64_t ordered = Value::new_label();
  states.push_back(
      {"cycle_through_tuple", labelled(OrderedDict{{"t", Tuple{1, Value::back_reference(ordered)}}}, ordered)});
}

void add_tensors(std::vector<NamedState>& states) {
  for (const DTypeInfo& row : all_dtypes()) {
    const bool below_a_byte = row.kind == DTypeClass::bits && !row.name.starts_with("bits");
    if (row.kind == DTypeClass::quantized || below_a_byte) continue;
    states.push_back({"tensor_" + std::string(row.name), Value{{"vector", make(row.dtype, {5})},
                                                               {"matrix", make(row.dtype, {2, 3}, 2)},
                                                               {"scalar", make(row.dtype, {}, 3)},
                                                               {"empty", make(row.dtype, {0})}}});
  }
  const std::uint32_t nans[] = {0x7fc00000, 0x7f800001, 0xffc12345, 0x80000000, 0x00000001, 0x7fffffff};
  states.push_back({"nan_payloads", Tensor::from_bytes(DType::float32, {6}, std::as_bytes(std::span(nans)))});
  states.push_back({"empty_tensors", List{make(DType::float32, {0}), make(DType::float32, {0, 3}),
                                          make(DType::int64, {2, 0}), make(DType::uint16, {0, 0, 0})}});
  const Tensor base = make(DType::float32, {4, 6});
  states.push_back({"views", Value{{"base", base},
                                   {"transposed", view(base, {6, 4}, {1, 6})},
                                   {"row", view(base, {6}, {1}, 12)},
                                   {"column", view(base, {4}, {6}, 5)},
                                   {"element", view(base, {}, {}, 23)},
                                   {"every_second", view(base, {2, 3}, {12, 2}, 1)},
                                   {"expanded", view(base, {1000000, 6}, {0, 1}, 6)},
                                   {"overlapping", view(base, {5, 4}, {1, 2})},
                                   {"empty_inside", view(base, {0, 6}, {6, 1}, 24)}}});
  states.push_back({"row_alone", view(base, {6}, {1}, 12)});
  Tensor with_grad = base;
  with_grad.requires_grad = true;
  states.push_back(
      {"parameters",
       Value{{"trained", parameter(base)}, {"frozen", parameter(base, false)}, {"buffer", base}, {"leaf", with_grad}}});
  Tensor conj = make(DType::complex64, {3});
  conj.is_conj = true;
  Tensor neg = make(DType::float64, {3});
  neg.is_neg = true;
  Tensor both = make(DType::complex128, {2});
  both.is_conj = both.is_neg = true;
  states.push_back({"lazy_bits", Value{{"conj", conj}, {"neg", neg}, {"both", both}}});
}

void add_odd_tensors(std::vector<NamedState>& states) {
  const Tensor base = make(DType::float32, {4});
  states.push_back({"two_dtypes_of_one_storage", Value{{"f", base},
                                                       {"i", as_dtype(base, DType::int32, 4)},
                                                       {"b", as_dtype(base, DType::uint8, 16)},
                                                       {"u", as_dtype(base, DType::uint16, 8)},
                                                       {"again", base}}});
  const Tensor words = make(DType::uint16, {4});
  states.push_back({"new_dtype_first", Value{{"u", words},
                                             {"bytes", as_dtype(words, DType::uint8, 8)},
                                             {"half", as_dtype(words, DType::float16, 4)},
                                             {"f8", as_dtype(words, DType::float8_e5m2, 8)}}});
  states.push_back({"storage_of_seven_bytes", view(as_dtype(make(DType::uint8, {7}), DType::float32, 1), {1}, {1})});
  states.push_back(
      {"attributes_of_tensors",
       Value{{"parameter", with_attributes(parameter(base), Value{{"tag", "encoder"}, {"list", List{1, 2}}})},
             {"tensor", with_attributes(base, Value{{"tag", 1}})},
             {"new_dtype", with_attributes(words, Value{{"tag", none}})}}});
  Tensor meta;
  meta.sizes = {3, 4};
  meta.strides = {4, 1};
  meta.storage = std::make_shared<MetaStorage>();
  states.push_back({"meta", Value{{"m", meta}, {"n", 1}}});

  Tensor quantized = make(DType::qint8, {2, 3});
  auto per_tensor = std::make_shared<Quantizer>();
  per_tensor->scale = 0.1;
  per_tensor->zero_point = 3;
  quantized.quantizer = per_tensor;
  Tensor per_axis = make(DType::quint8, {2, 3});
  auto per_channel = std::make_shared<Quantizer>();
  per_channel->scheme = "per_channel_affine";
  per_channel->scales = std::make_shared<Tensor>(Tensor::of<double>({2}, {0.5, 0.25}));
  per_channel->zero_points = std::make_shared<Tensor>(Tensor::of<std::int64_t>({2}, {1, 2}));
  per_axis.quantizer = per_channel;
  states.push_back({"quantized", Value{{"tensor", quantized}, {"channel", per_axis}}});

  SparseTensor coo;
  coo.indices = Tensor::of<std::int64_t>({2, 3}, {0, 1, 1, 2, 0, 2});
  coo.values = make(DType::float32, {3});
  coo.sizes = {2, 3};
  coo.is_coalesced = true;
  SparseTensor csr;
  csr.layout = "sparse_csr";
  csr.indices = Tensor::of<std::int64_t>({3}, {0, 1, 3});
  csr.plain = Tensor::of<std::int64_t>({3}, {2, 0, 2});
  csr.values = make(DType::float64, {3});
  csr.sizes = {2, 3};
  states.push_back({"sparse", Value{{"coo", coo}, {"csr", csr}}});
  NestedTensor nested;
  nested.buffer = make(DType::float32, {10});
  nested.sizes = Tensor::of<std::int64_t>({2, 2}, {2, 2, 2, 3});
  nested.strides = Tensor::of<std::int64_t>({2, 2}, {2, 1, 3, 1});
  nested.offsets = Tensor::of<std::int64_t>({2}, {0, 4});
  states.push_back({"nested", Value{{"n", nested}}});
}

void add_checkpoint(std::vector<NamedState>& states) {
  const Tensor weight = parameter(make(DType::float32, {4, 3}));
  const Value moments = Dict{{0, Value{{"step", Tensor::of<float>({}, {3})},
                                       {"exp_avg", make(DType::float32, {4, 3}, 5)},
                                       {"exp_avg_sq", make(DType::float32, {4, 3}, 6)}}}};
  const Value group{{"lr", 0.001},      {"betas", Tuple{0.9, 0.999}}, {"eps", 1e-8},     {"weight_decay", 0},
                    {"amsgrad", false}, {"maximize", false},          {"foreach", none}, {"params", List{0}}};
  states.push_back(
      {"checkpoint", Value{{"epoch", 1},
                           {"model_state_dict",
                            with_attributes(OrderedDict{{"weight", weight}}, Value{{"_metadata", OrderedDict{}}})},
                           {"optimizer_state_dict", Value{{"state", moments}, {"param_groups", List{group}}}},
                           {"loss", 0.5}}});
}

}  // namespace

std::vector<NamedState> conformance_states() {
  std::vector<NamedState> states;
  add_numbers(states);
  add_texts(states);
  add_containers(states);
  add_sharing(states);
  add_tensors(states);
  add_odd_tensors(states);
  add_checkpoint(states);
  return states;
}

std::vector<NamedState> large_states() {
  constexpr int kLevels = 100'000;
  constexpr int kTensors = 20'000;  // PyTorch needs 0.1 ms for each
  Value lists = List{};
  Value dicts = Value::mapping(Kind::dict);
  Value tuples = Tuple{1};
  for (int i = 0; i < kLevels; ++i) {
    lists = Value::sequence(Kind::list, {std::move(lists)});
    dicts = Value::mapping(Kind::dict, {{"k", std::move(dicts)}});
    tuples = Value::sequence(Kind::tuple, {std::move(tuples)});
  }
  std::vector<Entry> tensors;
  for (int i = 0; i < kTensors; ++i) {
    tensors.push_back({Value::string("layer." + std::to_string(i)), Tensor::of<std::int32_t>({2}, {i, -i})});
  }
  return {{"deep_lists", lists},
          {"deep_dicts", dicts},
          {"deep_tuples", tuples},
          {"many_entries", mapping_of(Kind::dict, kLevels)},
          {"many_tensors", Value::mapping(Kind::dict, std::move(tensors))},
          {"long_key", Value{{std::string(1 << 20, 'k'), 1}, {"long", std::string(1 << 20, 'v')}}}};
}

std::vector<RefusedState> refused_states() {
  Opaque object;
  object.module = "pathlib";
  object.name = "PosixPath";
  object.args = Tuple{"a"};
  const std::uint64_t label = Value::new_label();
  const Value tuple_in_itself = labelled(Tuple{List{Value::back_reference(label)}}, label);
  Tensor bare = make(DType::qint8, {2});
  return {{"frozenset", Value{{"a", List{1, Value::sequence(Kind::frozenset, {1})}}}, "a.1"},
          {"object", Value{{"config", Value{{"path", object}}}}, "config.path"},
          {"tuple_in_itself", Value{{"t", tuple_in_itself}}, "t.0.0"},
          {"foreign_label", Value{{"t", Value::back_reference(Value::new_label())}}, "t"},
          {"long_int", List{0, Integer::from_twos_complement(std::string(256, '\x5a'))}, "1"},
          {"broken_text", Value{{"names", List{"a", "\xff"}}}, "names.1"},
          {"broken_key", Dict{{"\xff", 1}}, "\xff"},
          {"attributes_of_a_list", Value{{"l", with_attributes(List{1}, Value{{"x", 1}})}}, "l"},
          {"object_in_attributes", Value{{"d", with_attributes(OrderedDict{{"a", 1}}, Value{{"m", object}})}},
           "d.<attributes>.m"},
          {"quantized_without_quantizer", Value{{"q", bare}}, "q"}};
}

}  // namespace torchkeep::testing
