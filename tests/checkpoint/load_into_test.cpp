// SPDX-License-Identifier: BSD-3-Clause
// load_into: everything is checked before the first byte, then every tensor is where it belongs, and errors say what
// became of the targets.
#include <algorithm>
#include <cstring>
#include <gtest/gtest.h>
#include <vector>

#include <torchkeep/checkpoint/checkpoint.h>

#include "support/expect_error.h"
#include "support/fault_fs.h"
#include "support/memory_fs.h"
#include "support/whole_file.h"

namespace torchkeep {
namespace {

using testing::FaultFs;
using testing::MemoryFs;

std::vector<float> ramp(std::size_t count, float first) {
  std::vector<float> values(count);
  for (std::size_t i = 0; i < count; ++i) values[i] = first + static_cast<float>(i);
  return values;
}

/// A tensor over live numbers, as a front makes it.
Tensor live(std::vector<float>& numbers, std::vector<std::int64_t> sizes, std::vector<std::int64_t> strides,
            std::int64_t offset = 0) {
  Tensor tensor;
  tensor.dtype = DType::float32;
  tensor.sizes = std::move(sizes);
  tensor.strides = std::move(strides);
  tensor.storage_offset = offset;
  tensor.storage = std::make_shared<BorrowedStorage>(std::as_writable_bytes(std::span(numbers)));
  return tensor;
}

Tensor tensor_of(const std::vector<float>& numbers) {
  return Tensor::of<float>({static_cast<std::int64_t>(numbers.size())}, numbers);
}

/// What is saved: a large and a small tensor, a list of two, and what is no tensor.
Value saved() {
  return {{"epoch", 7},
          {"model", Value{{"weight", tensor_of(ramp(3'000'000, 1))}, {"bias", tensor_of(ramp(5, 0.5))}}},
          {"list", List{tensor_of(ramp(3, 10.25)), tensor_of(ramp(4, 20.25))}},
          {"more", tensor_of(ramp(6, 30.25))}};
}

/// Live memory like it, full of -1.
struct Live {
  std::vector<float> weight = std::vector<float>(3'000'000, -1), bias = std::vector<float>(5, -1);
  std::vector<float> first = std::vector<float>(3, -1), second = std::vector<float>(4, -1);

  Value targets() {
    return {{"model", Value{{"weight", live(weight, {3'000'000}, {1})}, {"bias", live(bias, {5}, {1})}}},
            {"list", List{live(first, {3}, {1}), live(second, {4}, {1})}}};
  }
  bool untouched() const {
    for (const auto* numbers : {&weight, &bias, &first, &second}) {
      if (*numbers != std::vector<float>(numbers->size(), -1)) return false;
    }
    return true;
  }
};

class LoadInto : public ::testing::Test {
 protected:
  LoadInto() { save(saved(), "a.pt", {.fs = &fs_}); }
  LoadIntoOptions options() { return {.fs = &fs_}; }
  /// Changes a byte of the record that holds `numbers`.
  void damage(const std::vector<float>& numbers) {
    std::string file = testing::read_file(fs_, "a.pt");
    const std::size_t at = file.find(std::string(reinterpret_cast<const char*>(numbers.data()), 12));
    fs_.open_write("a.pt")->write_at(at + 1, as_bytes("x"));
  }

  MemoryFs fs_;
  Live live_;
};

TEST_F(LoadInto, PutsEveryTensorWhereItBelongsAndReturnsTheRest) {
  const Value result = load_into("a.pt", live_.targets(), options());
  EXPECT_EQ(live_.weight, ramp(3'000'000, 1));
  EXPECT_EQ(live_.bias, ramp(5, 0.5));
  EXPECT_EQ(live_.first, ramp(3, 10.25));
  EXPECT_EQ(live_.second, ramp(4, 20.25));
  EXPECT_TRUE(result == saved());
  EXPECT_EQ(result["model"]["weight"].as_tensor().storage->data(), reinterpret_cast<std::byte*>(live_.weight.data()));
  EXPECT_EQ(result["more"].as_tensor().to_vector<float>(), ramp(6, 30.25));
}

TEST_F(LoadInto, ReadsEachByteOnceAndAsksForNoSecondCopy) {
  FaultFs counting(fs_, {});
  load_into("a.pt", live_.targets(), {.fs = &counting, .threads = 1});
  std::size_t bytes = 0;
  for (const std::string& call : counting.calls()) {
    if (call.starts_with("read ")) bytes += std::strtoull(call.c_str() + 5, nullptr, 10);
  }
  EXPECT_LT(bytes, fs_.status("a.pt")->size + 100'000);
}

TEST_F(LoadInto, ListsEverythingThatDoesNotFitBeforeTheFirstByte) {
  std::vector<float> other(7, -1);
  Value targets = live_.targets();
  Value model = targets["model"];
  model.set("bias", live(other, {7}, {1}));
  model.set("extra", live(other, {7}, {1}));
  Tensor wrong = live(other, {7}, {1});
  wrong.dtype = DType::int32;
  targets.set("model", model);
  targets.set("more", wrong);
  targets.set("epoch", live(other, {7}, {1}));
  const auto load = [&] { load_into("a.pt", targets, options()); };
  EXPECT_ERROR(load(), Code::mismatch, "nothing was changed");
  EXPECT_ERROR(load(), Code::mismatch, "'model.bias': shape [5] in the file, [7] here");
  EXPECT_ERROR(load(), Code::mismatch, "'model': no key 'extra'");
  EXPECT_ERROR(load(), Code::mismatch, "'more': float32 in the file, int32 here");
  EXPECT_ERROR(load(), Code::mismatch, "'epoch': a int in the file, a tensor here");
  EXPECT_TRUE(live_.untouched());
}

TEST_F(LoadInto, RefusesMemoryThatIsNotGivenForWriting) {
  const Value targets{{"more", tensor_of(ramp(6, 0))}};
  EXPECT_ERROR(load_into("a.pt", targets, options()), Code::mismatch, "cannot be written");
}

TEST_F(LoadInto, AMetaTensorHasNoValuesToLoad) {
  Tensor meta;
  meta.sizes = {4};
  meta.strides = {1};
  meta.storage = std::make_shared<MetaStorage>();
  save(Value{{"w", meta}}, "meta.pt", {.fs = &fs_});
  std::vector<float> memory(4, 7);
  Tensor live = meta;
  live.storage = std::make_shared<BorrowedStorage>(std::as_writable_bytes(std::span(memory)));
  EXPECT_ERROR(load_into("meta.pt", Value{{"w", live}}, {.fs = &fs_}), Code::mismatch,
               "'w': a meta tensor in the file, which has no values");
  EXPECT_EQ(memory, std::vector<float>(4, 7));
  EXPECT_TRUE(load("meta.pt", {.fs = &fs_})["w"].as_tensor().is_meta());
}

TEST_F(LoadInto, WhatLiesBetweenTheElementsOfAViewIsLeftAlone) {
  const Tensor base = Tensor::of<float>({4}, {1, 2, 3, 4});
  Tensor twice = base;
  twice.sizes = {2, 2};
  twice.strides = {3, 0};  // the first and the last number, two times each
  save(Value{{"w", twice}}, "twice.pt", {.fs = &fs_});
  std::vector<float> memory(4, 7);
  Tensor live = twice;
  live.storage = std::make_shared<BorrowedStorage>(std::as_writable_bytes(std::span(memory)));
  load_into("twice.pt", Value{{"w", live}}, {.fs = &fs_});
  EXPECT_EQ(memory, (std::vector<float>{1, 7, 7, 4}));
}

TEST_F(LoadInto, ADamagedRecordSaysThatTheTargetsArePartlyOverwritten) {
  damage(ramp(3'000'000, 1));
  EXPECT_ERROR(load_into("a.pt", live_.targets(), options()), Code::corrupt,
               "what it was loaded into is now partly overwritten: do not use it");
}

TEST_F(LoadInto, DamageThatIsFoundBeforeAByteIsWrittenSaysNothingOfOverwriting) {
  damage(ramp(3, 10.25));
  const Value only{{"list", List{live(live_.first, {3}, {1}), live(live_.second, {4}, {1})}}};
  LoadIntoOptions alone = options();
  alone.threads = 1;
  try {
    load_into("a.pt", only, alone);
    FAIL() << "nothing was thrown";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), Code::corrupt);
    EXPECT_EQ(std::string(error.what()).find("overwritten"), std::string::npos) << error.what();
  }
  EXPECT_TRUE(live_.untouched());
}

TEST_F(LoadInto, VerifyFirstLeavesTheTargetsAlone) {
  damage(ramp(3'000'000, 1));
  LoadIntoOptions careful = options();
  careful.verify_first = true;
  EXPECT_ERROR(load_into("a.pt", live_.targets(), careful), Code::corrupt, "CRC-32 is");
  EXPECT_TRUE(live_.untouched());
}

TEST_F(LoadInto, AnOpenedCheckpointVerifiesTheFileThatWasOpened) {
  EXPECT_NO_THROW(OpenedCheckpoint("a.pt", options()).verify());
  damage(ramp(3'000'000, 1));
  const OpenedCheckpoint opened("a.pt", options());
  save(saved(), "a.pt", {.fs = &fs_});
  EXPECT_ERROR(opened.verify(), Code::corrupt, "It holds: model.weight");
  EXPECT_NO_THROW(verify("a.pt", {.fs = &fs_}));
}

TEST_F(LoadInto, DamageInWhatNoTargetWantsIsFoundFirst) {
  damage(ramp(6, 30.25));
  EXPECT_ERROR(load_into("a.pt", live_.targets(), options()), Code::corrupt, "CRC-32 is");
  EXPECT_TRUE(live_.untouched());
}

TEST_F(LoadInto, EveryReadThatFailsIsAnError) {
  for (std::size_t call = 1;; ++call) {
    ASSERT_LT(call, 200U);
    Live live;
    FaultFs faulty(fs_, {.call = call, .error = EIO});
    try {
      load_into("a.pt", live.targets(), {.fs = &faulty});
      EXPECT_FALSE(faulty.happened()) << "call " << call << " failed in silence";
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), Code::io);
      const bool says_so = std::string(error.what()).find("partly overwritten") != std::string::npos;
      EXPECT_TRUE(says_so || live.untouched()) << error.what();
    }
    if (!faulty.happened()) break;
  }
}

TEST_F(LoadInto, OtherStridesAreNoObstacle) {
  save(Value{{"m", Tensor::of<float>({2, 3}, {1, 2, 3, 4, 5, 6})}}, "b.pt", {.fs = &fs_});
  std::vector<float> columns(6, -1), wide(16, -1);
  load_into("b.pt", Value{{"m", live(columns, {2, 3}, {1, 2})}}, options());
  EXPECT_EQ(columns, (std::vector<float>{1, 4, 2, 5, 3, 6}));
  load_into("b.pt", Value{{"m", live(wide, {2, 3}, {8, 2}, 1)}}, options());
  EXPECT_EQ(wide, (std::vector<float>{-1, 1, -1, 2, -1, 3, -1, -1, -1, 4, -1, 5, -1, 6, -1, -1}));
}

TEST_F(LoadInto, PartsOfAStorageAreReadIntoParts) {
  Tensor whole = tensor_of(ramp(10, 0));
  Tensor part = whole;
  part.sizes = {4};
  part.storage_offset = 3;
  save(Value{{"part", part}, {"whole", whole}}, "b.pt", {.fs = &fs_});
  std::vector<float> numbers(6, -1);
  const Value result = load_into("b.pt", Value{{"part", live(numbers, {4}, {1}, 1)}}, options());
  EXPECT_EQ(numbers, (std::vector<float>{-1, 3, 4, 5, 6, -1}));
  EXPECT_EQ(result["whole"].as_tensor().to_vector<float>(), ramp(10, 0));
}

TEST_F(LoadInto, TargetsWithOtherStridesMayShareAMemoryButNoElement) {
  save(Value{{"a", Tensor::of<float>({3}, {1, 2, 3})}, {"b", Tensor::of<float>({3}, {4, 5, 6})}}, "b.pt", {.fs = &fs_});
  std::vector<float> numbers(6, -1);
  load_into("b.pt", Value{{"a", live(numbers, {3}, {2})}, {"b", live(numbers, {3}, {2}, 1)}}, options());
  EXPECT_EQ(numbers, (std::vector<float>{1, 4, 2, 5, 3, 6}));
  const auto fails = [&](const Tensor& a, const Tensor& b) {
    std::fill(numbers.begin(), numbers.end(), -1.0F);
    EXPECT_ERROR(load_into("b.pt", Value{{"a", a}, {"b", b}}, options()), Code::mismatch,
                 "'a' and 'b' share memory here and not in the file");
    EXPECT_EQ(numbers, std::vector<float>(6, -1));
  };
  fails(live(numbers, {3}, {2}), live(numbers, {3}, {2}));
  fails(live(numbers, {3}, {2}), live(numbers, {3}, {1}, 2));
  fails(live(numbers, {3}, {1}, 1), live(numbers, {3}, {2}));
}

TEST_F(LoadInto, TargetsThatAreOneTensorMustBeOneInTheFile) {
  const Tensor tied = tensor_of(ramp(4, 1));
  save(Value{{"a", tied}, {"b", tied}}, "tied.pt", {.fs = &fs_});
  save(Value{{"a", tied}, {"b", tensor_of(ramp(4, 2))}}, "apart.pt", {.fs = &fs_});
  std::vector<float> numbers(4, -1);
  const Value targets{{"a", live(numbers, {4}, {1})}, {"b", live(numbers, {4}, {1})}};
  load_into("tied.pt", targets, options());
  EXPECT_EQ(numbers, ramp(4, 1));
  EXPECT_ERROR(load_into("apart.pt", targets, options()), Code::mismatch,
               "'a' and 'b' share memory here and not in the file");
}

}  // namespace
}  // namespace torchkeep
