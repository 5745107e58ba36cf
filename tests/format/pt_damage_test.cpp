// SPDX-License-Identifier: BSD-3-Clause
// A damaged .pt file is an error or provably the same value, never another value and never a crash.
#include <gtest/gtest.h>

#include "support/pt_files.h"
#include "zip/zip.h"

namespace torchkeep {
namespace {

using testing::read_all;

Value state() {
  Tensor parameter = Tensor::of<float>({2, 2}, {1, 2, 3, 4});
  parameter.is_parameter = parameter.requires_grad = true;
  Value ordered = OrderedDict{{"weight", parameter}, {"bias", Tensor::of<std::uint16_t>({3}, {7, 8, 9})}};
  ordered.set_attributes(Value{{"_metadata", OrderedDict{}}});
  return {{"epoch", 3}, {"lr", 0.5}, {"name", "run"}, {"model", ordered}, {"empty", Tensor::of<float>({0}, {})}};
}

std::string sample() {
  return testing::pt_bytes(state());
}

TEST(PtDamage, EveryTruncationIsAnError) {
  const std::string file = sample();
  for (std::size_t size = 0; size < file.size(); ++size) {
    EXPECT_THROW(read_all(file.substr(0, size)), Error) << "cut to " << size << " bytes";
  }
}

// Reads the file with `change` made; true when that gave an error.
template <class Change>
::testing::AssertionResult is_error_or_same(const std::string& file, const Value& expected, std::size_t& errors,
                                            Change change) {
  std::string damaged = file;
  change(damaged);
  try {
    if (read_all(std::move(damaged)) == expected) return ::testing::AssertionSuccess();
  } catch (const Error&) {
    ++errors;
    return ::testing::AssertionSuccess();
  }
  return ::testing::AssertionFailure() << "another value was read without an error";
}

TEST(PtDamage, EveryFlippedByteIsAnErrorOrTheSameValue) {
  const std::string file = sample();
  const Value expected = state();
  std::size_t errors = 0;
  for (std::size_t i = 0; i < file.size(); ++i) {
    for (const int mask : {0x01, 0x02, 0x04, 0x08, 0x10, 0x20, 0x40, 0x80, 0xff}) {
      EXPECT_TRUE(
          is_error_or_same(file, expected, errors, [&](std::string& bytes) { bytes[i] ^= static_cast<char>(mask); }))
          << "byte " << i << " flipped by " << mask;
    }
    EXPECT_TRUE(is_error_or_same(file, expected, errors, [&](std::string& bytes) { bytes[i] = '\0'; }))
        << "byte " << i << " zero";
  }
  EXPECT_GT(errors, file.size());  // most flips are noticed; padding and dates are not
}

TEST(PtDamage, EveryFlippedByteOfAPayloadIsAnError) {
  const std::string file = sample();
  const zip::Reader zip(testing::as_file(file), Limits{});
  ASSERT_EQ(zip.records().size(), 8u);
  for (const zip::Record& record : zip.records()) {
    const std::uint64_t data = zip.locate(record);
    for (std::uint64_t i = data; i < data + record.size; ++i) {
      std::string damaged = file;
      damaged[i] = static_cast<char>(damaged[i] ^ 0x10);
      EXPECT_THROW(read_all(std::move(damaged)), Error) << record.name << " at " << i - data;
    }
  }
}

TEST(PtDamage, EveryRemovedOrInsertedByteIsAnErrorOrTheSameValue) {
  const std::string file = sample();
  const Value expected = state();
  std::size_t errors = 0;
  for (std::size_t i = 0; i < file.size(); ++i) {
    EXPECT_TRUE(is_error_or_same(file, expected, errors, [&](std::string& bytes) { bytes.erase(i, 1); })) << i;
    EXPECT_TRUE(is_error_or_same(file, expected, errors, [&](std::string& bytes) { bytes.insert(i, 1, 'x'); })) << i;
  }
  EXPECT_EQ(errors, 2 * file.size());
}

TEST(PtDamage, EveryFlippedBitOfAPickleAloneIsAnErrorOrAValue) {
  // Behind a CRC that says "not computed", the pickle itself must be safe to run whatever stands in it.
  std::string file = sample();
  const std::size_t pickle = file.find("\x80\x02}");
  const std::size_t end = file.find("PK\x07\x08");
  const std::size_t central = file.find("PK\x01\x02");
  file.replace(central + 16, 4, 4, '\0');
  std::size_t errors = 0;
  for (std::size_t i = pickle; i < end; ++i) {
    for (int value = 0; value < 256; ++value) {
      std::string damaged = file;
      damaged[i] = static_cast<char>(value);
      try {
        read_all(std::move(damaged), {.unknown_classes = UnknownClasses::opaque});
      } catch (const Error&) {
        ++errors;
      }
    }
  }
  EXPECT_GT(errors, end - pickle);
}

}  // namespace
}  // namespace torchkeep
