// SPDX-License-Identifier: BSD-3-Clause
// save and load as a user calls them: what is written comes back, and what cannot be is refused with its place.
#include <gtest/gtest.h>

#include <torchkeep/torchkeep.h>

#include "support/expect_error.h"
#include "support/memory_fs.h"
#include "support/whole_file.h"

namespace torchkeep {
namespace {

using testing::MemoryFs;

Value small_state() {
  const Tensor weight = Tensor::of<float>({2, 3}, {1, 2, 3, 4, 5, 6});
  Tensor transposed = weight;
  transposed.sizes = {3, 2};
  transposed.strides = {1, 3};
  return {{"epoch", 3}, {"loss", 0.25}, {"model", Value{{"weight", weight}, {"transposed", transposed}}}};
}

TEST(SaveLoad, BringsTheValueBack) {
  MemoryFs fs;
  save(small_state(), "a.pt", {.fs = &fs});
  const Value loaded = load("a.pt", {.fs = &fs});
  EXPECT_TRUE(loaded == small_state());
  EXPECT_EQ(loaded["epoch"].to<int>(), 3);
}

TEST(SaveLoad, KeepsViewsOfOneStorageShared) {
  MemoryFs fs;
  save(small_state(), "a.pt", {.fs = &fs});
  const Value model = load("a.pt", {.fs = &fs})["model"];
  EXPECT_EQ(model["weight"].as_tensor().storage, model["transposed"].as_tensor().storage);
}

TEST(SaveLoad, WritesTheSameBytesForTheSameValue) {
  MemoryFs fs;
  save(small_state(), "a.pt", {.fs = &fs});
  save(small_state(), "b.pt", {.durable = false, .fs = &fs});
  EXPECT_EQ(testing::read_file(fs, "a.pt"), testing::read_file(fs, "b.pt"));
}

TEST(SaveLoad, ErrorsOfALoadedValueNameTheFileAndTheKey) {
  MemoryFs fs;
  save(small_state(), "a.pt", {.fs = &fs});
  const Value loaded = load("a.pt", {.fs = &fs});
  EXPECT_ERROR(loaded["model"]["bias"], Code::not_found, "a.pt: key 'model.bias'");
}

TEST(SaveLoad, ErrorsOfASaveNameTheFileAndTheKey) {
  MemoryFs fs;
  const Value state{{"model", Value{{"names", List{1, Value::sequence(Kind::frozenset, {})}}}}};
  EXPECT_ERROR(save(state, "a.pt", {.fs = &fs}), Code::unsupported, "a.pt: key 'model.names.1': a frozenset");
  EXPECT_TRUE(fs.list("/").empty());
}

}  // namespace
}  // namespace torchkeep
