// SPDX-License-Identifier: BSD-3-Clause
// Small files of every format, damaged byte by byte.
#include <gtest/gtest.h>

#include "support/broken_files.h"
#include "support/file_parts.h"
#include "support/pt_files.h"

namespace torchkeep {
namespace {

using namespace testing::parts;
using testing::read_whole;

/// A small file. Formats without checksums cannot tell when the bytes of a tensor or a text have changed.
struct Small {
  const char* name;
  std::string bytes;
  bool has_checksums;
};

std::string object() {
  return pickle(empty_dict() + entry(text("lr"), number(1)) +
                entry(text("weight"), tensor(storage("0", 4), 0, {2, 2}, {2, 1})));
}

std::vector<Small> small_files() {
  std::vector<Record> deflated = torch_records(object());
  for (Record& record : deflated) record.deflate = true;
  return {
      {"zip", testing::pt_bytes({{"epoch", 3}, {"weight", Tensor::of<float>({2, 2}, {1, 2, 3, 4})}}), true},
      {"zip of another program", torch_zip(object()), true},
      {"deflated zip", testing::parts::zip(deflated), true},
      {"stream", stream().bytes(), false},
      {"tar", torch_tar().bytes(), false},
      {"pickle", pickle(empty_dict() + entry(text("lr"), number(1))), false},
      {"safetensors", safetensors(R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}})", "01234567"), false},
  };
}

/// What reading a damaged file came to.
enum class Result { error, same, other };

Result read_damaged(std::string bytes, const Value& expected) {
  try {
    return read_whole(std::move(bytes)) == expected ? Result::same : Result::other;
  } catch (const Error&) {
    return Result::error;
  }
}

TEST(Damage, EveryTruncationIsAnErrorOrTheSameValue) {
  for (const Small& file : small_files()) {
    const Value expected = read_whole(file.bytes);
    std::size_t errors = 0;
    for (std::size_t size = 0; size < file.bytes.size(); ++size) {
      const Result result = read_damaged(file.bytes.substr(0, size), expected);
      EXPECT_NE(result, Result::other) << file.name << " cut to " << size << " bytes";
      errors += result == Result::error;
    }
    EXPECT_GE(errors, file.bytes.size() / 4) << file.name;  // a tar ends with blocks of zeros
  }
}

TEST(Damage, EveryChangedByteIsAnErrorOrTheSameValueWhereThereAreChecksums) {
  for (const Small& file : small_files()) {
    const Value expected = read_whole(file.bytes);
    std::size_t errors = 0;
    for (std::size_t i = 0; i < file.bytes.size(); ++i) {
      for (const int mask : {0x01, 0x02, 0x04, 0x08, 0x10, 0x20, 0x40, 0x80, 0xff}) {
        std::string damaged = file.bytes;
        damaged[i] ^= static_cast<char>(mask);
        const Result result = read_damaged(std::move(damaged), expected);
        if (file.has_checksums) {
          EXPECT_NE(result, Result::other) << file.name << ", byte " << i << " changed by " << mask;
        }
        errors += result == Result::error;
      }
    }
    EXPECT_GT(errors, file.bytes.size() / 8) << file.name;
  }
}

TEST(Damage, WithoutChecksumsOnlyWhatChangedIsOther) {
  // Every byte of the tensor is changed in turn: exactly that byte is other, and nothing else is.
  const std::string header = R"({"a":{"dtype":"U8","shape":[8],"data_offsets":[0,8]}})";
  const std::string file = safetensors(header, "01234567");
  for (std::size_t i = 0; i < 8; ++i) {
    std::string damaged = file;
    damaged[damaged.size() - 8 + i] ^= 1;
    std::string expected = "01234567";
    expected[i] ^= 1;
    EXPECT_EQ(read_whole(damaged)["a"].as_tensor().contiguous_bytes(), expected);
  }
}

TEST(Damage, AnyByteOfAPickleMayBeAnything) {
  // No checksum stands before these: whatever is in them must be safe to read.
  std::size_t errors = 0;
  const std::vector<std::string> pickles = {stream().bytes(), torch_tar().bytes().substr(0, 4096)};
  for (const std::string& file : pickles) {
    for (std::size_t i = 0; i < file.size(); ++i) {
      if (file[i] == '\0' && i % 16 != 0) continue;  // most of a tar is zeros
      for (int value = 0; value < 256; value += 3) {
        std::string damaged = file;
        damaged[i] = static_cast<char>(value);
        errors += read_damaged(std::move(damaged), Value()) == Result::error;
      }
    }
  }
  EXPECT_GT(errors, 1000u);
}

}  // namespace
}  // namespace torchkeep
