// SPDX-License-Identifier: BSD-3-Clause
// load() of files that lead to other files, and of records that are damaged.
#include <gtest/gtest.h>
#include <string>

#include <torchkeep/checkpoint/checkpoint.h>

#include "support/expect_error.h"
#include "support/file_parts.h"
#include "support/memory_fs.h"
#include "support/whole_file.h"

namespace torchkeep {
namespace {

using testing::create_file;
using testing::MemoryFs;
using testing::read_file;

constexpr const char* kIndex = "model.safetensors.index.json";

std::string shard(const std::string& name, const std::string& bytes) {
  const std::string size = std::to_string(bytes.size());
  return testing::parts::safetensors(
      "{\"" + name + "\":{\"dtype\":\"U8\",\"shape\":[" + size + "],\"data_offsets\":[0," + size + "]}}", bytes);
}

// Two shards and an index with this weight_map, and a file beside their folder.
void fill(MemoryFs& fs, const std::string& weight_map) {
  fs.make_directory("m");
  create_file(fs, "m/model-1.safetensors", shard("a", "one"));
  create_file(fs, "m/model-2.safetensors", shard("b", "three"));
  create_file(fs, "secret.safetensors", shard("a", "no!"));
  create_file(fs, std::string("m/") + kIndex, "{\"metadata\":{\"total_size\":8},\"weight_map\":" + weight_map + "}");
}

Value load_index(const std::string& weight_map) {
  MemoryFs fs;
  fill(fs, weight_map);
  return load(std::string("m/") + kIndex, {.fs = &fs});
}

TEST(SafetensorsIndex, CollectsTheTensorsOfItsShards) {
  const Value value = load_index(R"({"b":"model-2.safetensors","a":"model-1.safetensors"})");
  ASSERT_EQ(value.size(), 2u);
  EXPECT_EQ(value.items()[0].key.as_string(), "b");
  EXPECT_EQ(value["a"].as_tensor().contiguous_bytes(), "one");
  EXPECT_EQ(value["b"].as_tensor().contiguous_bytes(), "three");
}

TEST(SafetensorsIndex, IsVerifiedWithItsShards) {
  MemoryFs fs;
  fill(fs, R"({"a":"model-1.safetensors"})");
  EXPECT_NO_THROW(verify(std::string("m/") + kIndex, {.fs = &fs}));
  fs.remove("m/model-1.safetensors");
  EXPECT_ERROR(verify(std::string("m/") + kIndex, {.fs = &fs}), Code::not_found, "m/model-1.safetensors");
}

TEST(SafetensorsIndex, LeadsNowhereButBesideItself) {
  for (const char* name : {"../secret.safetensors", "/secret.safetensors", "..", ".", "", "a\\\\b", "x\\u0000"}) {
    EXPECT_ERROR(load_index(std::string("{\"a\":\"") + name + "\"}"), Code::refused, "a file beside the index") << name;
  }
}

TEST(SafetensorsIndex, IsNoShardOfAnIndex) {
  EXPECT_ERROR(load_index(std::string("{\"a\":\"") + kIndex + "\"}"), Code::unsupported, "cannot be opened from here");
}

TEST(SafetensorsIndex, NamesWhatIsWrong) {
  EXPECT_ERROR(load_index(R"({"a":"model-2.safetensors"})"), Code::corrupt, "key 'a': it should be in");
  EXPECT_ERROR(load_index(R"({"a":"model-3.safetensors"})"), Code::not_found, "m/model-3.safetensors");
  EXPECT_ERROR(load_index(R"({"a":1})"), Code::corrupt, "expected the name of a file");
  EXPECT_ERROR(load_index(R"({"a":["model-1.safetensors"]})"), Code::corrupt, "expected the name of a file");
  EXPECT_ERROR(load_index(R"({"a":"model-1.safetensors","a":"model-2.safetensors"})"), Code::corrupt, "twice");
  EXPECT_ERROR(load_index(R"("model-1.safetensors")"), Code::corrupt, "without the object weight_map");
  EXPECT_ERROR(load_index(R"({"a":"model-1.safetensors")"), Code::corrupt, "not JSON");
  EXPECT_ERROR(load_index(R"({"a":"model-1.safetensors"},"weight_map":{})"), Code::corrupt, "two weight_maps");
}

// A saved file with one byte of this tensor changed.
void save_damaged(MemoryFs& fs, const Value& state, const std::string& bytes) {
  save(state, "a.pt", {.fs = &fs});
  std::string file = read_file(fs, "a.pt");
  file[file.find(bytes)] ^= 1;
  fs.remove("a.pt");
  create_file(fs, "a.pt", file);
}

TEST(Verify, NamesTheTensorsOfADamagedRecord) {
  const Tensor weight = Tensor::from_bytes(DType::uint8, {8}, as_bytes("damaged!"));
  const Value state = {{"model", {{"weight", weight}, {"tied", weight}, {"bias", Tensor::of<float>({1}, {1})}}}};
  MemoryFs fs;
  save_damaged(fs, state, "damaged!");
  EXPECT_ERROR(load("a.pt", {.fs = &fs}), Code::corrupt, "data/0: CRC-32 is");
  EXPECT_ERROR(load("a.pt", {.fs = &fs}), Code::corrupt, "It holds: model.weight, model.tied");
  EXPECT_ERROR(verify("a.pt", {.fs = &fs}), Code::corrupt, "It holds: model.weight, model.tied");
}

TEST(Load, ReadsADamagedRecordOnRequest) {
  MemoryFs fs;
  save_damaged(fs, {{"weight", Tensor::from_bytes(DType::uint8, {8}, as_bytes("damaged!"))}}, "damaged!");
  const Value value = load("a.pt", {.verify = false, .fs = &fs});
  EXPECT_EQ(value["weight"].as_tensor().contiguous_bytes(), "eamaged!");
}

}  // namespace
}  // namespace torchkeep
