// SPDX-License-Identifier: BSD-3-Clause
// compact() keeps every element and drops what no tensor looks at.
#include <gtest/gtest.h>
#include <numeric>

#include <torchkeep/state/compact.h>

namespace torchkeep {
namespace {

/// 0, 1, 2 ... as int32.
Tensor numbers(std::int64_t count) {
  std::vector<std::int32_t> values(static_cast<std::size_t>(count));
  std::iota(values.begin(), values.end(), 0);
  return Tensor::of<std::int32_t>({count}, values);
}

Tensor view(Tensor tensor, std::vector<std::int64_t> sizes, std::vector<std::int64_t> strides, std::int64_t offset) {
  tensor.sizes = std::move(sizes);
  tensor.strides = std::move(strides);
  tensor.storage_offset = offset;
  return tensor;
}

std::vector<std::int32_t> values_of(const Value& value) {
  return value.as_tensor().to_vector<std::int32_t>();
}

TEST(Compact, ARowOfATableCostsARow) {
  const Value row = compact(view(numbers(1000), {10}, {1}, 500));
  EXPECT_EQ(values_of(row), (std::vector<std::int32_t>{500, 501, 502, 503, 504, 505, 506, 507, 508, 509}));
  EXPECT_LE(row.as_tensor().storage->nbytes(), 40U + 15U);
}

TEST(Compact, TensorsOnOneStorageStillShareIt) {
  const Tensor table = numbers(1000);
  const Value value = compact(List{view(table, {4}, {1}, 100), view(table, {2}, {2}, 102), view(table, {0}, {1}, 7)});
  EXPECT_EQ(values_of(value[0]), (std::vector<std::int32_t>{100, 101, 102, 103}));
  EXPECT_EQ(values_of(value[1]), (std::vector<std::int32_t>{102, 104}));
  EXPECT_EQ(value[0].as_tensor().storage, value[1].as_tensor().storage);
  EXPECT_EQ(value[0].as_tensor().storage, value[2].as_tensor().storage);
  EXPECT_LE(value[0].as_tensor().storage->nbytes(), 20U + 15U);
}

TEST(Compact, ALoneTensorWithGapsBecomesContiguous) {
  const Value column = compact(view(numbers(1000), {10}, {100}, 3));
  EXPECT_EQ(values_of(column), (std::vector<std::int32_t>{3, 103, 203, 303, 403, 503, 603, 703, 803, 903}));
  EXPECT_EQ(column.as_tensor().storage->nbytes(), 40U);
}

TEST(Compact, ATransposedTensorStaysAsItIs) {
  const Value transposed = compact(view(numbers(6), {3, 2}, {1, 3}, 0));
  EXPECT_EQ(transposed.as_tensor().strides, (std::vector<std::int64_t>{1, 3}));
  EXPECT_EQ(values_of(transposed), (std::vector<std::int32_t>{0, 3, 1, 4, 2, 5}));
}

TEST(Compact, WhatUsesItsWholeStorageIsNotTouched) {
  const Value value{{"a", numbers(7)}, {"b", 3}};
  const Value same = compact(value);
  EXPECT_TRUE(same == value);
  EXPECT_EQ(same["a"].as_tensor().storage, value["a"].as_tensor().storage);
}

}  // namespace
}  // namespace torchkeep
