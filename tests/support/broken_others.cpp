// SPDX-License-Identifier: BSD-3-Clause
// The catalogue: safetensors, plain pickles, and files that are something else.
#include "support/broken_files.h"
#include "support/file_parts.h"

namespace torchkeep::testing {
namespace {

using namespace parts;
using namespace std::string_literals;

BrokenFile tensors(const char* name, std::string_view header, std::string_view data, std::optional<Code> code,
                   const char* message = "") {
  return {std::string("safetensors.") + name, safetensors(header, data), code, message};
}

}  // namespace

std::vector<BrokenFile> broken_safetensors() {
  constexpr Code corrupt = Code::corrupt;
  constexpr std::string_view kTwo =
      R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"b":{"dtype":"U8","shape":[1],"data_offsets":[8,9]}})";
  const auto one = [](const char* name, std::string_view dtype, std::string_view shape, std::string_view offsets,
                      std::string_view data, std::optional<Code> code, const char* message = "") {
    return tensors(name,
                   R"({"a":{"dtype":")"s + std::string(dtype) + R"(","shape":)" + std::string(shape) +
                       R"(,"data_offsets":)" + std::string(offsets) + "}}",
                   data, code, message);
  };
  return {
      tensors("honest", kTwo, "012345678", std::nullopt),
      tensors("without_tensors", "{}", "", std::nullopt),
      tensors("blanks_around_the_header", "  {}  \n", "", std::nullopt),
      tensors("cut_off", kTwo, "01234567", corrupt, "cut off"),
      tensors("bytes_behind", kTwo, "0123456789", corrupt, "something follows"),
      {"safetensors.header_cut_off", safetensors(kTwo, "").substr(0, 40), corrupt, "cut off"},
      {"safetensors.header_of_the_universe", u64(~0ull) + std::string(kTwo), corrupt, "not a checkpoint"},
      tensors("not_json", "{\"a\":", "", corrupt, "unexpected end of input"),
      tensors("text_behind_the_header", "{} {}", "", corrupt, "unexpected '{'"),
      tensors("header_nested_deep", "{\"a\":{\"more\":" + std::string(100'000, '['), "", Code::refused,
              "nests deeper than the limit of 128"),
      tensors("header_not_utf8", "{\"\xff\":{}}", "", corrupt, "ill-formed UTF-8"),
      tensors(
          "two_tensors_of_one_name",
          R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}})",
          "0", corrupt, "stands in the header twice"),
      tensors("hole", R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[1,2]}})", "01", corrupt, "begin at 1"),
      tensors(
          "overlap",
          R"({"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]},"b":{"dtype":"U8","shape":[2],"data_offsets":[1,3]}})",
          "012", corrupt, "begin at 1"),
      one("end_before_begin", "U8", "[1]", "[0,-1]", "", corrupt, "found a negative number"),
      one("offsets_overflow", "U8", "[1]", "[0,18446744073709551616]", "0", corrupt, "beyond 64 bits"),
      one("offsets_of_floats", "U8", "[1]", "[0,1.0]", "0", corrupt, "found a fraction"),
      one("three_offsets", "U8", "[1]", "[0,1,1]", "0", corrupt, "data_offsets of two numbers, found a number"),
      one("shape_larger_than_bytes", "F32", "[2]", "[0,4]", "0123", corrupt, "takes 8 bytes"),
      one("shape_overflows", "F32", "[4611686018427387904,4]", "[0,4]", "0123", corrupt, "overflows"),
      one("negative_size", "F32", "[-1]", "[0,4]", "0123", corrupt, "found a negative number"),
      one("size_over_63_bits", "U8", "[18446744073709551615]", "[0,1]", "0", corrupt, "overflows 64 bits"),
      one("shape_of_texts", "F32", "[\"1\"]", "[0,4]", "0123", corrupt, "found a text"),
      one("unknown_dtype", "F31", "[1]", "[0,4]", "0123", corrupt, "dtype 'F31'"),
      one("half_a_byte", "F4", "[1]", "[0,1]", "0", corrupt, "not a whole number of bytes"),
      tensors("no_dtype", R"({"a":{"shape":[1],"data_offsets":[0,1]}})", "0", corrupt, "has no dtype"),
      tensors("tensor_that_is_a_list", R"({"a":[]})", "", corrupt, "found an array"),
      tensors("metadata_of_numbers", R"({"__metadata__":{"a":1}})", "", corrupt, "found a number"),
  };
}

std::vector<BrokenFile> other_files() {
  constexpr Code corrupt = Code::corrupt, unsupported = Code::unsupported;
  const auto other = [](const char* name, std::string bytes, Code code, const char* message) {
    return BrokenFile{std::string("other.") + name, std::move(bytes), code, message};
  };
  return {
      {"raw.honest", pickle(empty_dict() + entry(text("lr"), number(1))), std::nullopt},
      {"raw.protocol_0", "(dp0\nS'lr'\np1\nF0.5\ns.", std::nullopt},
      {"raw.bytes_behind", pickle("N") + "more", std::nullopt},
      {"raw.no_stop", "\x80\2]", corrupt, "without STOP"},
      {"raw.storage_in_no_file", pickle(tensor(storage("0", 4), 0, {4}, {1})), corrupt,
       "which nothing in this file holds"},
      {"raw.protocol_of_the_future", "\x80\7N.", corrupt, "not a checkpoint of any format"},
      {"raw.longer_than_the_limit",
       pickle(text(std::string(100'000, 'x'))),
       Code::refused,
       "a pickle of more than 10 bytes",
       {.limits = {.max_pickle_bytes = 10}}},
      other("empty", "", corrupt, "the file is empty"),
      other("one_byte", "\x80", corrupt, "not a checkpoint"),
      other("random", "\x01\x02\x03\x04\x05\x06\x07\x08\x09\x0a", corrupt, "not a checkpoint"),
      other("text", "Hello, this is not a checkpoint.\n", corrupt, "not a checkpoint"),
      other("git_lfs_pointer", "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n", unsupported,
            "git lfs pull"),
      other("gzip", "\x1f\x8b\x08"s + std::string(20, '\0'), unsupported, "gzip"),
      other("numpy", "\x93NUMPY\1"s + std::string(60, '\0'), unsupported, ".npy"),
      other("hdf5", "\x89HDF\r\n\x1a\n"s, unsupported, "HDF5"),
      other("gguf", "GGUF\3"s + std::string(60, '\0'), unsupported, "GGUF"),
      other("web_page", "<!DOCTYPE html><html></html>", unsupported, "a web page"),
      other("json", "{\"a\": 1}", unsupported, "JSON"),
      other("preview_format", "PYTORCH1"s + std::string(60, '\0'), unsupported, "preview"),
  };
}

}  // namespace torchkeep::testing
