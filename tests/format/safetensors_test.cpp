// SPDX-License-Identifier: BSD-3-Clause
// The rules of safetensors, each with a file that breaks it. (Against the safetensors library itself: tests/cli.)
#include <cstring>
#include <gtest/gtest.h>

#include <torchkeep/format/safetensors.h>

#include "support/expect_error.h"

namespace torchkeep {
namespace {

std::string file_of(const std::string& json, std::size_t data_bytes) {
  const std::uint64_t length = json.size();
  std::string file(8, '\0');
  std::memcpy(file.data(), &length, 8);
  file += json;
  for (std::size_t i = 0; i < data_bytes; ++i) file += static_cast<char>(i);
  return file;
}

SafetensorsFile open(std::string bytes, const SafetensorsReadOptions& options = {}) {
  return open_safetensors(std::make_shared<MemoryReadAt>(std::move(bytes), "a.safetensors"), options);
}

SafetensorsFile open(const std::string& json, std::size_t data_bytes, const SafetensorsReadOptions& options = {}) {
  return open(file_of(json, data_bytes), options);
}

// The bytes a plan describes.
std::string bytes_of(const Plan& plan) {
  std::string bytes;
  for (const Extent& extent : plan.extents) {
    EXPECT_EQ(extent.file_offset, bytes.size());
    if (!extent.is_payload) {
      bytes += plan.literals.substr(extent.index, extent.size);
    } else {
      std::string payload(extent.size, '\0');
      plan.payloads[extent.index]->read(0, std::as_writable_bytes(std::span(payload)));
      bytes += payload;
    }
  }
  EXPECT_EQ(bytes.size(), plan.file_size);
  return bytes;
}

std::string header_of(const std::string& file) {
  std::uint64_t length = 0;
  std::memcpy(&length, file.data(), 8);
  EXPECT_EQ(length % 8, 0u);
  return file.substr(8, length);
}

Tensor floats(std::vector<std::int64_t> sizes, std::initializer_list<float> values) {
  return Tensor::of<float>(std::move(sizes), values);
}

TEST(SafetensorsReader, GivesTensorsInTheOrderOfTheirBytesAndTheMetadata) {
  const SafetensorsFile file = open(
      R"({"b":{"dtype":"U8","shape":[3],"data_offsets":[4,7]},"__metadata__":{"format":"pt","x":"1","format":"np"},)"
      R"("a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"empty":{"dtype":"I64","shape":[0,5],"data_offsets":[4,4]}})",
      7);
  ASSERT_EQ(file.tensors.size(), 3u);
  EXPECT_EQ(file.tensors.items()[0].key, Value("a"));
  EXPECT_EQ(file.tensors.items()[1].key, Value("empty"));
  EXPECT_EQ(file.tensors["b"].as_tensor().to_vector<std::uint8_t>(), (std::vector<std::uint8_t>{4, 5, 6}));
  EXPECT_EQ(file.tensors["empty"].as_tensor().sizes, (std::vector<std::int64_t>{0, 5}));
  EXPECT_EQ(file.metadata, (SafetensorsMetadata{{"format", "np"}, {"x", "1"}}));
  EXPECT_EQ(file.tensors.where().file, "a.safetensors");
}

TEST(SafetensorsReader, AcceptsWhatTheLibraryAccepts) {
  EXPECT_EQ(open("{}", 0).tensors.size(), 0u);
  EXPECT_EQ(open(" \t{}\n  ", 0).tensors.size(), 0u);
  EXPECT_EQ(open(R"({"__metadata__":null})", 0).metadata.size(), 0u);
  EXPECT_EQ(open(R"({"":{"dtype":"U8","shape":[],"data_offsets":[0,1]}})", 1).tensors[""].as_tensor().dim(), 0);
  EXPECT_TRUE(
      open(R"({"\u00e9\n":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}})", 1).tensors.contains("\xc3\xa9\n"));
  EXPECT_EQ(
      open(R"({"a":{"note":{"x":[1,-2,{"y":null}]},"dtype":"U8","f":1.5,"shape":[1],"n":null,"data_offsets":[0,1],)"
           R"("t":true}})",
           1)
          .tensors.size(),
      1u);
  EXPECT_EQ(open(R"({"a":{"data_offsets":[0,2],"shape":[4],"dtype":"F4"}})", 2).tensors["a"].as_tensor().sizes,
            (std::vector<std::int64_t>{2}));
}

TEST(SafetensorsReader, RefusesAFileThatIsNone) {
  EXPECT_ERROR(open("short"), Code::corrupt, "5 bytes are no safetensors file");
  EXPECT_ERROR(open(file_of("{}", 0).substr(0, 9)), Code::corrupt, "cut off");
  EXPECT_ERROR(open(file_of("{}", 0), {.max_header_bytes = 1}), Code::refused, "limit of 1");
  EXPECT_ERROR(open(std::string(8, '\xff') + "{}"), Code::refused, "limit of 100000000");
}

TEST(SafetensorsReader, RefusesAHeaderThatIsNoJsonObject) {
  for (const char* json : {"", "[]", "5", "\"a\"", "null", "{", "{}x", "{}{}", "{,}", "{\"a\"}", "{'a':1}",
                           "{\"a\":\"\xff\"}", "{\"\\ud800\":1}", "\xef\xbb\xbf{}"}) {
    EXPECT_ERROR(open(json, 0), Code::corrupt, "a.safetensors at byte ") << json;
  }
  EXPECT_ERROR(open(std::string("{}\0\0", 4), 0), Code::corrupt, "NUL");
}

TEST(SafetensorsReader, RefusesAnEntryWithMissingTwiceGivenOrWrongFields) {
  const auto refused = [](const std::string& entry, const char* why) {
    EXPECT_ERROR(open("{\"w\":" + entry + "}", 4), Code::corrupt, why) << entry;
    EXPECT_ERROR(open("{\"w\":" + entry + "}", 4), Code::corrupt, "'w'") << entry;
  };
  refused(R"({"shape":[1],"data_offsets":[0,4]})", "no dtype");
  refused(R"({"dtype":"F32","data_offsets":[0,4]})", "no shape");
  refused(R"({"dtype":"F32","shape":[1]})", "no data_offsets");
  refused(R"({"dtype":"F32","dtype":"F32","shape":[1],"data_offsets":[0,4]})", "dtype stands in the entry twice");
  refused(R"({"dtype":"F32","shape":[1],"data_offsets":[0]})", "fewer than two");
  refused(R"({"dtype":"F32","shape":[1],"data_offsets":[0,4,4]})", "two numbers");
  refused(R"({"dtype":"F32","shape":[-1],"data_offsets":[0,4]})", "a negative number");
  refused(R"({"dtype":"F32","shape":[1.5],"data_offsets":[0,4]})", "a fraction");
  refused(R"({"dtype":"F32","shape":[18446744073709551616],"data_offsets":[0,4]})", "beyond 64 bits");
  refused(R"({"dtype":"F32","shape":1,"data_offsets":[0,4]})", "an array for shape");
  refused(R"({"dtype":"F32","shape":[[1]],"data_offsets":[0,4]})", "an array");
  refused(R"({"dtype":1,"shape":[1],"data_offsets":[0,4]})", "a text for dtype");
  refused(R"({"dtype":null,"shape":[1],"data_offsets":[0,4]})", "a text for dtype");
  refused(R"({"dtype":"F31","shape":[1],"data_offsets":[0,4]})", "'F31' is not one of the format");
  refused("null", "an object with dtype");
  refused("[]", "an object with dtype");
  refused("\"F32\"", "an object with dtype");
}

TEST(SafetensorsReader, RefusesMetadataThatIsNotTexts) {
  EXPECT_ERROR(open(R"({"__metadata__":{"a":1}})", 0), Code::corrupt, "object of texts");
  EXPECT_ERROR(open(R"({"__metadata__":{"a":null}})", 0), Code::corrupt, "object of texts");
  EXPECT_ERROR(open(R"({"__metadata__":{"a":{}}})", 0), Code::corrupt, "object of texts");
  EXPECT_ERROR(open(R"({"__metadata__":[]})", 0), Code::corrupt, "object of texts");
  EXPECT_ERROR(open(R"({"__metadata__":{},"__metadata__":{}})", 0), Code::corrupt, "twice");
}

TEST(SafetensorsReader, RefusesANameTwice) {
  EXPECT_ERROR(
      open(
          R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}})",
          1),
      Code::corrupt, "the name stands in the header twice");
}

TEST(SafetensorsReader, RefusesHolesOverlapsAndBytesNobodyOwns) {
  const auto two = [](int b1, int e1, int b2, int e2) {
    const auto entry = [](int begin, int end) {
      return "{\"dtype\":\"U8\",\"shape\":[" + std::to_string(end - begin) + "],\"data_offsets\":[" +
             std::to_string(begin) + "," + std::to_string(end) + "]}";
    };
    return "{\"a\":" + entry(b1, e1) + ",\"b\":" + entry(b2, e2) + "}";
  };
  EXPECT_EQ(open(two(0, 2, 2, 4), 4).tensors.size(), 2u);
  EXPECT_EQ(open(two(2, 4, 0, 2), 4).tensors.size(), 2u);
  EXPECT_ERROR(open(two(0, 2, 3, 4), 4), Code::corrupt, "expected 2");
  EXPECT_ERROR(open(two(0, 2, 1, 4), 4), Code::corrupt, "expected 2");
  EXPECT_ERROR(open(two(1, 2, 2, 4), 4), Code::corrupt, "expected 0");
  EXPECT_ERROR(open(two(0, 2, 2, 4), 5), Code::corrupt, "something follows");
  EXPECT_ERROR(open(two(0, 2, 2, 4), 3), Code::corrupt, "cut off");
  EXPECT_ERROR(open(R"({"a":{"dtype":"U8","shape":[0],"data_offsets":[0,18446744073709551615]}})", 0), Code::corrupt,
               "cut off");
  EXPECT_ERROR(open(R"({"a":{"dtype":"U8","shape":[4],"data_offsets":[4,0]}})", 4), Code::corrupt, "expected 0");
}

TEST(SafetensorsReader, RefusesShapesThatDoNotFitTheirBytes) {
  const auto refused = [](const std::string& dtype, const std::string& shape, const char* why) {
    EXPECT_ERROR(open("{\"w\":{\"dtype\":\"" + dtype + "\",\"shape\":" + shape + ",\"data_offsets\":[0,4]}}", 4),
                 Code::corrupt, why);
  };
  refused("F32", "[2]", "takes 8 bytes, data_offsets give 4");
  refused("F32", "[0]", "takes 0 bytes");
  refused("U8", "[4294967296,4294967296]", "overflows");
  refused("U8", "[9223372036854775808,0]", "overflows");
  refused("F4", "[7]", "whole number of bytes");
  refused("F4", "[8,1]", "even last size");
}

TEST(SafetensorsReader, RefusesWhatPyTorchHasNoDtypeFor) {
  EXPECT_ERROR(open(R"({"a":{"dtype":"F6_E2M3","shape":[4],"data_offsets":[0,3]}})", 3), Code::unsupported, "F6_E2M3");
}

TEST(SafetensorsReader, RefusesAHeaderBomb) {
  std::string deep = "{\"a\":{\"x\":";
  for (int i = 0; i < 200; ++i) deep += '[';
  EXPECT_ERROR(open(deep, 0), Code::refused, "deeper than the limit of 128");
}

TEST(SafetensorsReader, NamesFileByteAndTensor) {
  EXPECT_ERROR(open(R"({"layer.weight":{"dtype":"F32","shape":[1],"data_offsets":[1,5]}})", 5), Code::corrupt,
               "a.safetensors at byte 23: key 'layer.weight'");
}

TEST(SafetensorsWriter, SortsByDtypeThenName) {
  const Value tensors{{"b", floats({1}, {2})},
                      {"a", floats({1}, {1})},
                      {"c", Tensor::of<std::int64_t>({1}, {7})},
                      {"d", Tensor::of<bool>({1}, {true})}};
  const std::string file = bytes_of(plan_safetensors(tensors, {{"format", "pt"}}).plan);
  EXPECT_EQ(
      header_of(file),
      R"({"__metadata__":{"format":"pt"},"c":{"dtype":"I64","shape":[1],"data_offsets":[0,8]},)"
      R"("a":{"dtype":"F32","shape":[1],"data_offsets":[8,12]},"b":{"dtype":"F32","shape":[1],"data_offsets":[12,16]},)"
      R"("d":{"dtype":"BOOL","shape":[1],"data_offsets":[16,17]}}      )");
}

TEST(SafetensorsWriter, OfNothingWritesWhatTheLibraryWrites) {
  EXPECT_EQ(bytes_of(plan_safetensors(Value(Dict{})).plan), file_of("{}      ", 0));
}

TEST(SafetensorsWriter, WritesStridedTensorsInOrder) {
  Tensor transposed = floats({2, 3}, {1, 2, 3, 4, 5, 6});
  transposed.sizes = {3, 2}, transposed.strides = {1, 3};
  const SafetensorsFile file = open(bytes_of(plan_safetensors(Value{{"t", transposed}}).plan));
  EXPECT_EQ(file.tensors["t"].as_tensor().to_vector<float>(), (std::vector<float>{1, 4, 2, 5, 3, 6}));
}

TEST(SafetensorsWriter, KeepsOneNameOfTiedTensorsAndRecordsTheOthers) {
  const Tensor tied = floats({2}, {1, 2});
  const SafetensorsPlan plan = plan_safetensors(Value{{"lm_head", tied}, {"embedding", tied}});
  EXPECT_EQ(plan.tied, (std::vector<std::pair<std::string, std::string>>{{"lm_head", "embedding"}}));
  EXPECT_TRUE(plan.copied.empty());
  const SafetensorsFile file = open(bytes_of(plan.plan));
  EXPECT_EQ(file.tensors.size(), 1u);
  EXPECT_EQ(file.metadata, (SafetensorsMetadata{{"lm_head", "embedding"}}));
}

TEST(SafetensorsWriter, LetsTheCallersMetadataStand) {
  const Tensor tied = floats({2}, {1, 2});
  const SafetensorsPlan plan = plan_safetensors(Value{{"a", tied}, {"b", tied}}, {{"b", "mine"}});
  EXPECT_EQ(open(bytes_of(plan.plan)).metadata, (SafetensorsMetadata{{"b", "mine"}}));
}

TEST(SafetensorsWriter, CopiesOverlapsAndLeavesDisjointSlicesAlone) {
  const Tensor whole = floats({4}, {1, 2, 3, 4});
  const auto slice = [&](std::int64_t begin, std::int64_t count) {
    Tensor part = whole;
    part.sizes = {count}, part.storage_offset = begin;
    return part;
  };
  const auto copied = [](const Value& tensors) { return plan_safetensors(tensors).copied; };
  EXPECT_EQ(copied(Value{{"a", slice(0, 2)}, {"b", slice(2, 2)}}), std::vector<std::string>{});
  EXPECT_EQ(copied(Value{{"a", slice(2, 2)}, {"b", slice(0, 2)}, {"c", slice(1, 2)}}), std::vector<std::string>{"c"});
  EXPECT_EQ(copied(Value{{"a", whole}, {"b", slice(3, 1)}}), std::vector<std::string>{"b"});
  const SafetensorsFile file = open(bytes_of(plan_safetensors(Value{{"a", whole}, {"b", slice(3, 1)}}).plan));
  EXPECT_EQ(file.tensors["b"].as_tensor().to_vector<float>(), std::vector<float>{4});
}

TEST(SafetensorsWriter, ListsEverythingTheFormatCannotHold) {
  const Value tensors = Dict{{"ok", floats({1}, {1})},
                             {"z", Tensor::of<std::complex<double>>({1}, {{1, 2}})},
                             {"n", 3},
                             {5, floats({1}, {1})}};
  EXPECT_ERROR(plan_safetensors(tensors), Code::unsupported,
               "'z' (complex128 is not a dtype of the format), 'n' (int), a key that is no str (int)");
  EXPECT_ERROR(plan_safetensors(Value(5)), Code::mismatch, "a dict of tensors");
  EXPECT_ERROR(plan_safetensors(Value{{"__metadata__", floats({1}, {1})}}), Code::unsupported, "keeps for itself");
  Tensor conjugated = Tensor::of<std::complex<float>>({1}, {{1, 2}});
  conjugated.is_conj = true;
  EXPECT_ERROR(plan_safetensors(Value{{"c", conjugated}}), Code::unsupported, "conjugated");
}

TEST(SafetensorsWriter, WritesEveryDtypeItReads) {
  Value tensors = Dict{};
  for (const DTypeInfo& row : all_dtypes()) {
    Tensor tensor = Tensor::from_bytes(row.dtype, {2}, as_bytes(std::string(2 * row.itemsize, '\x41')));
    if (safetensors_obstacle(tensor).empty()) tensors.set(Value::string(std::string(row.name)), tensor);
  }
  EXPECT_EQ(tensors.size(), 20u);
  const SafetensorsFile file = open(bytes_of(plan_safetensors(tensors).plan));
  for (const Entry& entry : tensors.items())
    EXPECT_EQ(file.tensors.at(entry.key).clone(), entry.value) << entry.key.as_string();
}

TEST(LooksLikeSafetensors, ByLengthAndBrace) {
  const auto looks = [](std::string bytes) { return looks_like_safetensors(MemoryReadAt(std::move(bytes))); };
  EXPECT_TRUE(looks(file_of("{}", 0)));
  EXPECT_TRUE(looks(file_of("  {}", 5)));
  EXPECT_FALSE(looks(""));
  EXPECT_FALSE(looks(file_of("[]", 0)));
  EXPECT_FALSE(looks("PK\x03\x04 and so on, a zip file"));
  EXPECT_FALSE(looks(file_of("{}", 0).substr(0, 9)));
}

}  // namespace
}  // namespace torchkeep
