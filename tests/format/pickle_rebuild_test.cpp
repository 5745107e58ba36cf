// SPDX-License-Identifier: BSD-3-Clause
// Calls on the allow-list: what they make of good arguments, and that bad ones are refused.
#include <gtest/gtest.h>

#include "pickles.h"
#include "support/expect_error.h"

namespace torchkeep::pickle {
namespace {

using testing::number;
using testing::run_pickle;
using testing::text;
using namespace std::string_literals;

std::string global(std::string_view module, std::string_view name) {
  return "c" + std::string(module) + "\n" + std::string(name) + "\n";
}

std::string storage(std::string_view type = "FloatStorage", int numel = 6) {
  const std::string_view module = type == "UntypedStorage" ? "torch.storage" : "torch";
  return "(" + text("storage") + global(module, type) + text("0") + text("cpu") + number(numel) + "tQ";
}

const std::string kHooks = global("collections", "OrderedDict") + ")R";

/// The call of a torch._utils function with these arguments.
std::string rebuild(std::string_view function, std::string_view arguments) {
  return global("torch._utils", function) + "(" + std::string(arguments) + "tR.";
}

std::string v2(std::string_view offset, std::string_view sizes, std::string_view strides) {
  return rebuild("_rebuild_tensor_v2",
                 storage() + std::string(offset) + std::string(sizes) + std::string(strides) + "\x89" + kHooks);
}

TEST(Rebuild, MakesATensorOverItsStorage) {
  const Value value = run_pickle(v2("K\1", "K\2K\2\x86", "K\2K\1\x86"));
  const Tensor& tensor = value.as_tensor();
  EXPECT_EQ(tensor.dtype, DType::float32);
  EXPECT_EQ(tensor.sizes, (std::vector<std::int64_t>{2, 2}));
  EXPECT_EQ(tensor.strides, (std::vector<std::int64_t>{2, 1}));
  EXPECT_EQ(tensor.storage_offset, 1);
  EXPECT_EQ(tensor.storage->nbytes(), 24u);
}

TEST(Rebuild, TheOldestFormNeedsFourArguments) {
  EXPECT_TRUE(run_pickle(rebuild("_rebuild_tensor", storage() + "K\0K\6\x85K\1\x85"s)).is(Kind::tensor));
}

TEST(Rebuild, V3NamesTheDtypeBesideAnUntypedStorage) {
  const Value value = run_pickle(rebuild("_rebuild_tensor_v3", storage("UntypedStorage", 6) + "K\0K\3\x85K\1\x85\x88"s +
                                                                   kHooks + global("torch", "uint16")));
  EXPECT_EQ(value.as_tensor().dtype, DType::uint16);
  EXPECT_EQ(value.as_tensor().storage->nbytes(), 6u);
  EXPECT_TRUE(value.as_tensor().requires_grad);
}

TEST(Rebuild, MetadataSetsTheLazyBits) {
  const std::string metadata = "}" + text("conj") + "\x88s";
  const Value value = run_pickle(rebuild("_rebuild_tensor_v2", storage() + "K\0))\x89"s + kHooks + metadata));
  EXPECT_TRUE(value.as_tensor().is_conj);
  EXPECT_FALSE(value.as_tensor().is_neg);
}

TEST(Rebuild, ParametersKeepTheirAttributes) {
  const std::string tensor = v2("K\0"s, "K\6\x85", "K\1\x85");
  const std::string inner = tensor.substr(0, tensor.size() - 1);
  const Value plain = run_pickle(rebuild("_rebuild_parameter", inner + "\x88" + kHooks));
  EXPECT_TRUE(plain.as_tensor().is_parameter);
  EXPECT_TRUE(plain.as_tensor().requires_grad);
  const std::string state = "}" + text("tag") + "K\7s";
  const Value tagged = run_pickle(rebuild("_rebuild_parameter_with_state", inner + "\x89" + kHooks + state));
  EXPECT_FALSE(tagged.as_tensor().requires_grad);
  EXPECT_TRUE(tagged.attributes() == (Value{{"tag", 7}}));
}

TEST(Rebuild, AMetaTensorHasAShapeAndNoBytes) {
  const Value value = run_pickle(rebuild("_rebuild_meta_tensor_no_storage",
                                         global("torch", "float32") + "M\xff\xffM\xff\xff\x86M\xff\xffK\1\x86\x89"));
  EXPECT_EQ(value.as_tensor().storage->location(), "meta");
  EXPECT_EQ(value.as_tensor().storage->nbytes(), 0u);
  EXPECT_ERROR(value.as_tensor().contiguous_bytes(), Code::unsupported, "has no values");
}

TEST(Rebuild, AStorageOfItsOwnIsShownAsATensor) {
  const Value value = run_pickle(storage() + ".");
  EXPECT_EQ(value.as_opaque().form, Opaque::Form::persistent);
  EXPECT_EQ(value.as_opaque().args.as_tensor().sizes, std::vector<std::int64_t>{6});
}

TEST(Rebuild, ReadsPythonsPlainObjects) {
  EXPECT_TRUE(run_pickle(global("torch", "Size") + "K\2K\3\x86\x85R.") == Value(Size{{2, 3}}));
  EXPECT_TRUE(run_pickle(global("torch", "device") + text("cuda") + "K\1\x86R.") == Value(Device{"cuda:1"}));
  EXPECT_TRUE(run_pickle(global("torch", "device") + text("cuda:1") + "\x85R.") == Value(Device{"cuda:1"}));
  EXPECT_TRUE(run_pickle(global("torch", "bfloat16") + ".") == Value(DType::bfloat16));
  EXPECT_TRUE(run_pickle(global("__builtin__", "set") + "](K\1K\2e\x85R.") == Value(Set{1, 2}));
  EXPECT_TRUE(run_pickle(global("builtins", "set") + ")R.") == Value(Set{}));
  EXPECT_TRUE(run_pickle(global("collections", "Counter") + "}K\1K\2s\x85R.") ==
              Value::mapping(Kind::counter, {{1, 2}}));
  EXPECT_TRUE(run_pickle(global("_codecs", "encode") + text("a\xc3\xbf") + text("latin1") + "\x86R.") ==
              Value::bytes("a\xff"));
  EXPECT_TRUE(run_pickle(global("__builtin__", "bytes") + ")R.") == Value::bytes(""));
}

struct BadCall {
  const char* name;
  std::string pickle;
  Code code;
  const char* text;
};

class BadArguments : public ::testing::TestWithParam<BadCall> {};

TEST_P(BadArguments, AreRefused) {
  EXPECT_ERROR(run_pickle(GetParam().pickle), GetParam().code, GetParam().text);
}

const std::string kHuge = "\x8a\x08\xff\xff\xff\xff\xff\xff\xff\x7f"s;  // 2^63 - 1

const BadCall kBadCalls[] = {
    {"too_few", rebuild("_rebuild_tensor_v2", storage()), Code::corrupt,
     "torch._utils._rebuild_tensor_v2: 1 arguments, expected 6 to 7"},
    {"too_many", rebuild("_rebuild_tensor", storage() + "NNNNNNNNN"), Code::corrupt,
     "torch._utils._rebuild_tensor: 10 arguments"},
    {"no_storage", rebuild("_rebuild_tensor", "NK\0))"s), Code::corrupt, "argument 1 is None, expected a storage"},
    {"offset_a_text", rebuild("_rebuild_tensor", storage() + text("x") + "))"), Code::corrupt,
     "argument 2 is a str, expected an int"},
    {"sizes_a_list", rebuild("_rebuild_tensor", storage() + "K\0])"s), Code::corrupt,
     "argument 3 is a list, expected a tuple of ints"},
    {"size_a_float", rebuild("_rebuild_tensor", storage() + "K\0F1.5\n\x85)"s), Code::corrupt, "argument 3 is a tuple"},
    {"beyond_the_storage", v2("K\1"s, "K\6\x85", "K\1\x85"), Code::corrupt, "needs 7 elements, its storage has 6"},
    {"stride_beyond_the_storage", v2("K\0"s, "K\2\x85", "K\6\x85"), Code::corrupt, "needs 7 elements"},
    {"negative_offset", v2(number(-1), "K\1\x85", "K\1\x85"), Code::corrupt, "negative storage offset"},
    {"negative_size", v2("K\0"s, number(-1) + "\x85", "K\1\x85"), Code::corrupt, "negative size or stride"},
    {"negative_stride", v2("K\5", "K\2\x85", number(-1) + "\x85"), Code::corrupt, "negative size or stride"},
    {"size_overflow", v2("K\0"s, kHuge + kHuge + "\x86", "K\0K\0\x86"s), Code::corrupt, "overflows"},
    {"stride_overflow", v2("K\0"s, "K\3K\3\x86", kHuge + kHuge + "\x86"), Code::corrupt, "overflow"},
    {"offset_overflow", v2(kHuge, "K\2\x85", kHuge + "\x85"), Code::corrupt, "overflow"},
    {"fewer_strides", v2("K\0"s, "K\1K\1\x86", "K\1\x85"), Code::corrupt, "2 sizes but 1 strides"},
    {"requires_grad_an_int", rebuild("_rebuild_tensor_v2", storage() + "K\0))K\1"s + kHooks), Code::corrupt,
     "argument 5 is an int, expected a bool"},
    {"hooks", rebuild("_rebuild_tensor_v2", storage() + "K\0))\x89"s + kHooks + "K\1K\2s"), Code::unsupported,
     "backward hooks cannot be kept"},
    {"unknown_metadata", rebuild("_rebuild_tensor_v2", storage() + "K\0))\x89"s + kHooks + "}" + text("x") + "\x88s"),
     Code::unsupported, "tensor metadata 'x'"},
    {"v3_without_dtype", rebuild("_rebuild_tensor_v3", storage() + "K\0))\x89"s + kHooks + "N"), Code::corrupt,
     "argument 7 is None, expected a dtype"},
    {"parameter_of_a_number", rebuild("_rebuild_parameter", "K\1\x88" + kHooks), Code::corrupt,
     "argument 1 is an int, expected a tensor"},
    {"sparse_of_a_text", rebuild("_rebuild_sparse_tensor", text("torch.sparse_coo") + ")"), Code::corrupt,
     "argument 1 is a str, expected a layout"},
    {"sparse_of_numbers",
     rebuild("_rebuild_sparse_tensor",
             global("torch.serialization", "_get_layout") + text("torch.sparse_coo") + "\x85RK\1K\2K\3\x87"),
     Code::corrupt, "argument 1 is an int, expected a tensor"},
    {"strided_layout",
     rebuild("_rebuild_sparse_tensor", global("torch.serialization", "_get_layout") + text("torch.strided") + "\x85R)"),
     Code::unsupported, "a tensor of layout strided"},
    {"nested_of_numbers", rebuild("_rebuild_nested_tensor", "K\1K\2K\3K\4"), Code::corrupt, "expected a tensor"},
    {"quantizer_a_number", rebuild("_rebuild_qtensor", storage("QInt8Storage") + "K\0))K\1\x89"s + kHooks),
     Code::corrupt, "argument 5 is an int, expected a tuple"},
    {"meta_of_unequal_rank", rebuild("_rebuild_meta_tensor_no_storage", global("torch", "float32") + "K\1\x85)\x89"),
     Code::corrupt, "1 sizes but 0 strides"},
    {"encode_of_another_encoding", global("_codecs", "encode") + text("a") + text("utf-8") + "\x86R.",
     Code::unsupported, "encoding 'utf-8'"},
    {"encode_of_a_wide_character", global("_codecs", "encode") + text("\xc4\x80") + text("latin1") + "\x86R.",
     Code::corrupt, "a character above 255"},
    {"size_of_texts", global("torch", "Size") + text("a") + "\x85\x85R.", Code::corrupt, "a tuple of ints"},
    {"device_of_a_number", global("torch", "device") + "K\1\x85R.", Code::corrupt,
     "argument 1 is an int, expected a str"},
    {"complex_of_one", global("builtins", "complex") + "K\1\x85R.", Code::corrupt, "1 arguments, expected 2"},
    {"bytearray_of_a_size", global("builtins", "bytearray") + "\x8a\x08\xff\xff\xff\xff\xff\xff\xff\x7f\x85R.",
     Code::corrupt, "expected bytes"},
    {"ordered_dict_of_numbers", global("collections", "OrderedDict") + "](K\1K\2e\x85R.", Code::corrupt,
     "argument 1 is a list, expected a list of pairs"},
};

INSTANTIATE_TEST_SUITE_P(Rebuild, BadArguments, ::testing::ValuesIn(kBadCalls),
                         [](const auto& info) { return info.param.name; });

}  // namespace
}  // namespace torchkeep::pickle
