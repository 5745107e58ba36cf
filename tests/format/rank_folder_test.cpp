// SPDX-License-Identifier: BSD-3-Clause
// Folders that ranks of ours write: what they hold, what is read of them, and what is found wrong with them.
// tests/shard/test_rank_folders.py has PyTorch judge them.
#include "support/rank_folder.h"

#include <gtest/gtest.h>
#include <random>

#include <torchkeep/format/open_file.h>
#include <torchkeep/format/shard_reader.h>

#include "shard/elements.h"
#include "support/dcp_folder.h"
#include "support/expect_error.h"

namespace torchkeep {
namespace {

using testing::part_of;
using testing::RankFolder;
using testing::sample_rank_folder;
using testing::save_ranks;

Value read(const RankFolder& folder) {
  return read_all(open_dcp(folder.folder()), 1);
}

FileCheck check(const RankFolder& folder) {
  return check_dcp(folder.folder(), {.threads = 1});
}

Tensor numbers(const Shape& shape) {
  return testing::box_of_numbers(Box(Shape(shape.size(), 0), shape), shape);
}

Tensor zeros(const Shape& sizes) {
  Tensor tensor;
  tensor.sizes = sizes;
  tensor.strides = contiguous_strides(sizes);
  auto memory = std::make_shared<std::vector<std::byte>>(tensor.nbytes());
  tensor.storage = std::make_shared<BorrowedStorage>(MutableBytes(*memory), memory);
  return tensor;
}

TEST(RankFolder, GivesBackWhatTheRanksSaved) {
  const RankFolder folder = sample_rank_folder();
  const Value state = read(folder);
  EXPECT_EQ(state["w"].as_tensor().to_vector<float>(), numbers({6, 4}).to_vector<float>());
  EXPECT_EQ(state["bias"].as_tensor().to_vector<float>(), (std::vector<float>{1, 2, 0}));
  EXPECT_EQ(state["n"].to<int>(), 7);
  EXPECT_EQ(state["rank"][1]["seed"].to<int>(), 1);
  EXPECT_EQ(state["rank"][1]["rng"].as_tensor().to_vector<std::uint8_t>(), (std::vector<std::uint8_t>{1, 5, 6}));
  EXPECT_TRUE(check(folder).good());
}

// What DCP's names lose: keys that are int, empty dicts, tuples, shared memory, flags.
TEST(RankFolder, KeepsTheStructureThatFlatNamesLose) {
  Tensor parameter = numbers({2, 3});
  parameter.requires_grad = parameter.is_parameter = true;
  const Tensor bias = numbers({4});
  Value inner = Value::mapping(Kind::ordered_dict);
  inner.set("p", parameter);
  inner.set_attributes(Value{{"_metadata", Value{{"version", 2}}}});
  Value by_number = Value::mapping(Kind::dict);
  by_number.set(0, Value{{"step", Tensor::of<float>({}, {3})}});
  const Value state{{"model", inner},
                    {"state", by_number},
                    {"empty", Value::mapping(Kind::dict)},
                    {"pair", Value::sequence(Kind::tuple, {bias, 3})},
                    {"tied", bias},
                    {"again", bias},
                    {"nested", Value::sequence(Kind::list, {Value{{"a", numbers({1})}}, none})}};
  const RankFolder folder = save_ranks({{state, {}}});
  const Value back = read(folder);
  EXPECT_EQ(back["tied"].as_tensor().storage->identity(), back["again"].as_tensor().storage->identity());
  EXPECT_TRUE(back["model"]["p"].as_tensor().is_parameter);
  EXPECT_TRUE(back["model"]["p"].as_tensor().requires_grad);
  EXPECT_EQ(back["model"].attributes(), inner.attributes());
  EXPECT_EQ(back["state"], by_number);
  EXPECT_EQ(back["nested"], state["nested"]);
  EXPECT_EQ(back["pair"], state["pair"]);
  EXPECT_TRUE(back["empty"].empty());
  EXPECT_TRUE(check(folder).good());
}

TEST(RankFolder, WhatNeitherFormatCanHoldIsRefusedWithItsKey) {
  const auto plan = [](const Value& state) { return plan_rank_file({state, {}}, {"one", 0, 1}); };
  const Tensor part = part_of(numbers({4}), Box({0}, {2}));
  Tensor meta = numbers({2});
  meta.storage = std::make_shared<MetaStorage>();
  EXPECT_ERROR(plan(Value{{"a", Value{{"m", meta}}}}), Code::unsupported, "a.m");
  EXPECT_ERROR(plan(Value{{"t", Value::sequence(Kind::tuple, {part})}}), Code::unsupported, "spread over ranks");
  EXPECT_ERROR(plan(Value{{"a.b", 1}, {"a", Value{{"b", 2}}}}), Code::mismatch, "a.b");
  EXPECT_ERROR(plan(Value{{"torchkeep", 1}}), Code::unsupported, "torchkeep");
  EXPECT_ERROR(plan_rank_file({Value{{"rank", 1}}, Value{{"x", 1}}}, {"one", 0, 1}), Code::mismatch, "rank");
  Tensor outside = numbers({2});
  outside.shard = std::make_shared<const Shard>(Shard{{4}, {3}});
  EXPECT_ERROR(plan(Value{{"w", outside}}), Code::invalid_argument, "'w'");
  EXPECT_ERROR(plan(Value{{"w", part_of(numbers({4}), Box({0}, {2}), {1, 0})}}), Code::invalid_argument, "replicas");
  EXPECT_ERROR(plan_pt(Value{{"w", part}}), Code::unsupported, "spread over ranks");
}

// Rank r of `world` holds rows of "w", and "same" as all do.
std::vector<RankState> three_ranks() {
  std::vector<RankState> ranks;
  for (std::int64_t rank = 0; rank < 3; ++rank) {
    ranks.push_back(
        {Value{{"w", part_of(numbers({6, 4}), Box({2 * rank, 0}, {2, 4}))}, {"same", numbers({2})}, {"lr", 0.5}}, {}});
  }
  return ranks;
}

void expect_refused(const std::vector<RankState>& ranks, std::string_view message) {
  EXPECT_ERROR(save_ranks(ranks), Code::mismatch, message);
}

TEST(RankFolder, RanksThatDoNotFitEachOtherAreNamed) {
  EXPECT_NO_THROW(save_ranks(three_ranks()));
  auto ranks = three_ranks();
  ranks[1].state.set("w", part_of(numbers({6, 4}), Box({2, 0}, {1, 4})));
  expect_refused(ranks, "'w': 4 of 24 elements are in no chunk");
  ranks[1].state.set("w", part_of(numbers({6, 4}), Box({1, 0}, {3, 4})));
  expect_refused(ranks, "overlap (of ranks 0, 1)");
  ranks[1].state.set("w", part_of(numbers({5, 4}), Box({2, 0}, {2, 4})));
  expect_refused(ranks, "float32 [5, 4] on rank 1, and float32 [6, 4] on rank 0");
  ranks = three_ranks();
  ranks[2].state.set("same", Tensor::of<float>({2}, {0, 2}));
  expect_refused(ranks, "'same' [0:2] of rank 2 differs from that of rank 0");
  ranks = three_ranks();
  ranks[1].state.set("lr", 0.25);
  expect_refused(ranks, "'lr': its value on rank 1 is another one than on rank 0");
  ranks = three_ranks();
  ranks[2].state.set("more", 1);
  expect_refused(ranks, "'more': rank 2 has this value, and rank 0 does not");
  ranks = three_ranks();
  ranks[1].state.erase("same");
  expect_refused(ranks, "rank 0 has this tensor, and rank 1 does not");
}

TEST(RankFolder, ListsOfOtherSavesAndRanksAreRefused) {
  const auto ranks = three_ranks();
  const auto list = [&](std::uint32_t rank, const std::string& save, std::uint32_t world) {
    RankFile file = plan_rank_file(ranks[rank], {save, rank, world});
    testing::write(file);
    return file.list;
  };
  ManifestBuilder builder({"one", 0, 3});
  builder.add(list(0, "one", 3));
  EXPECT_ERROR(builder.add(list(2, "one", 3)), Code::invalid_argument, "rank 2 where that of rank 1");
  EXPECT_ERROR(builder.add(list(1, "two", 3)), Code::mismatch, "rank 1 writes the save 'two'");
  EXPECT_ERROR(builder.add(list(1, "one", 4)), Code::mismatch, "of 4 ranks");
  builder.add(list(1, "one", 3));
  EXPECT_ERROR(std::move(builder).finish(), Code::invalid_argument, "2 of 3 ranks");
}

TEST(RankFolder, OneOfTheRanksThatHoldTheSamePartWritesIt) {
  constexpr std::uint32_t kWorld = 4;
  const Tensor large = numbers({1 << 16});
  std::vector<RankState> ranks;
  for (std::int64_t rank = 0; rank < kWorld; ++rank) {  // two halves, each on two ranks
    const std::vector<std::int64_t> replicas =
        rank < 2 ? std::vector<std::int64_t>{0, 1} : std::vector<std::int64_t>{2, 3};
    Value state = Value::mapping(Kind::dict);
    for (int i = 0; i < 8; ++i) {
      state.set("t" + std::to_string(i), part_of(large, Box({rank < 2 ? 0 : 1 << 15}, {1 << 15}), replicas));
      state.set("whole" + std::to_string(i), large);
    }
    ranks.push_back({state, {}});
  }
  const Manifest manifest = save_ranks(ranks).manifest();
  ASSERT_EQ(manifest.files.size(), kWorld);
  EXPECT_EQ(manifest.chunks.size(), 8 * 2 + 8u);
  for (const Manifest::File& file : manifest.files) EXPECT_EQ(file.chunks, 6u) << file.tail.name;
}

TEST(RankFolder, OneMetadataForOneManifest) {
  const RankFolder folder = sample_rank_folder();
  RankFolder again = folder;
  again.set_manifest(folder.manifest());
  EXPECT_EQ(again.files, folder.files);
  RankFolder as_dcp = folder;  // and it says the same as the manifest
  as_dcp.files.erase(std::string(kManifestName));
  EXPECT_EQ(read(as_dcp)["w"], read(folder)["w"]);
  EXPECT_EQ(read(as_dcp)["rank"]["1"]["rng"], read(folder)["rank"][1]["rng"]);
}

// Whatever byte changes: a load gives the same state or an error, and check() finds it in all files but the manifest,
// where some have no meaning (padding, dates).
TEST(RankFolder, AChangedByteIsFoundOrMeansNothing) {
  const RankFolder honest = sample_rank_folder();
  const Value state = read(honest);
  for (const auto& [name, bytes] : honest.files) {
    for (std::size_t i = 0; i < bytes.size(); i += 7) {
      RankFolder changed = honest;
      changed.files[name][i] ^= 0x10;
      bool is_found = false;
      try {
        EXPECT_EQ(read(changed), state) << name << " byte " << i;
      } catch (const Error& error) {
        EXPECT_NE(std::string(error.what()).find(name), std::string::npos) << error.what();
        is_found = true;
      }
      const bool is_damaged = [&] {
        try {
          return !check(changed).good();
        } catch (const Error&) {  // refused by a rule
          return true;
        }
      }();
      const bool may_be_padding = name == kManifestName && !is_found;
      EXPECT_TRUE(is_damaged || may_be_padding) << name << " byte " << i;
    }
  }
}

TEST(RankFolder, ADamagedTensorIsNamedWithItsFileAndRank) {
  RankFolder folder = sample_rank_folder();
  const Manifest manifest = folder.manifest();
  folder.files["__1_0.distcp"][manifest.chunks.offset.back()] ^= 1;  // of "rank.1.rng"
  EXPECT_ERROR(read(folder), Code::corrupt, "ckpt/__1_0.distcp");
  EXPECT_ERROR(read(folder), Code::corrupt, "rank.1.rng");
  const FileCheck checked = check(folder);
  ASSERT_FALSE(checked.good());
}

TEST(RankFolder, FilesOfTwoSavesAreToldApart) {
  const RankFolder one = sample_rank_folder("one"), two = sample_rank_folder("two", 3);
  ASSERT_EQ(one.files.at("__1_0.distcp").size(), two.files.at("__1_0.distcp").size());
  RankFolder mixed = one;
  mixed.files["__1_0.distcp"] = two.files.at("__1_0.distcp");
  EXPECT_ERROR(read(mixed), Code::corrupt, "of the save two, and manifest.pt of the save one");
  EXPECT_ERROR(read(mixed), Code::corrupt, "rank 1");
  EXPECT_FALSE(check(mixed).good());
  mixed = one;
  mixed.files[".metadata"] = two.files.at(".metadata");
  EXPECT_FALSE(check(mixed).good());
}

TEST(RankFolder, MissingAndShortFilesAreNamedWithTheirRank) {
  RankFolder folder = sample_rank_folder();
  folder.files["__1_0.distcp"].pop_back();
  EXPECT_ERROR(read(folder), Code::corrupt, "__1_0.distcp");
  EXPECT_ERROR(read(folder), Code::corrupt, "rank 1");
  folder.files.erase("__1_0.distcp");
  EXPECT_ERROR(read(folder), Code::corrupt, "missing: __1_0.distcp of rank 1 with 'w'");
}

TEST(RankFolder, AManifestThatLiesIsRefused) {
  const auto expect = [](const std::function<void(Manifest&)>& change, Code code, std::string_view message) {
    RankFolder folder = sample_rank_folder();
    Manifest manifest = folder.manifest();
    change(manifest);
    const auto shared = std::make_shared<const Manifest>(std::move(manifest));
    folder.files[std::string(kManifestName)] = testing::write(plan_manifest(shared));
    EXPECT_ERROR(read(folder), code, message);
  };
  expect([](Manifest& m) { m.files[1].tail.name = "../__1_0.distcp"; }, Code::refused, "must be called __1_0.distcp");
  expect([](Manifest& m) { m.files[1].tail.name = "/etc/passwd"; }, Code::refused, "must be called __1_0.distcp");
  expect([](Manifest& m) { m.files[1].rank = 0; }, Code::corrupt, "rank 0");
  expect([](Manifest& m) { m.files[1].chunks += 1; }, Code::corrupt, "more chunks");
  expect([](Manifest& m) { m.files[1].tail.numbers = 5; }, Code::corrupt, "__1_0.distcp");
  expect([](Manifest& m) { m.chunks.offset[0] = 1 << 30; }, Code::corrupt, "does not lie inside");
  expect([](Manifest& m) { m.chunks.boxes[0] = 1; }, Code::corrupt, "'w'");
  expect([](Manifest& m) { m.chunks.boxes[2] = 3; }, Code::corrupt, "elements are in no chunk");
  expect([](Manifest& m) { m.chunks.tensor[0] = 99; }, Code::corrupt, "tensor 99");
  expect([](Manifest& m) { m.chunks.crc[0] ^= 1; }, Code::corrupt, "'w'");
  expect([](Manifest& m) { m.chunks.crc.pop_back(); }, Code::corrupt, "crc");
  expect([](Manifest& m) { m.structure.set("x", 1); }, Code::corrupt, "'x'");
  expect([](Manifest& m) { m.structure.erase("w"); }, Code::corrupt, "");
  expect([](Manifest& m) { m.values.length[0] = ~std::uint64_t{0} >> 2; }, Code::corrupt, "'n'");
  expect([](Manifest& m) { m.own[1].first = 7; }, Code::corrupt, "own");
}

TEST(RankList, BytesThatAreNoListAreRefused) {
  RankFile file = plan_rank_file(three_ranks()[1], {"one", 1, 3});
  testing::write(file);
  const std::string bytes = to_bytes(file.list);
  std::mt19937 random(4);
  for (int i = 0; i < 3000; ++i) {
    std::string changed = bytes;
    for (int k = 0; k < 3; ++k) changed[random() % changed.size()] = static_cast<char>(random());
    if (random() % 4 == 0) changed.resize(random() % changed.size());
    try {
      const RankList list = rank_list_from(changed);
      EXPECT_LE(list.own_tensors, list.tensors.size());
    } catch (const Error&) {
    }
  }
}

// Any part of any split is what it is of the whole tensor, wherever it is wanted.
TEST(ShardReader, ReadsRandomPartsOfRandomSplits) {
  std::mt19937 random(7);
  for (int round = 0; round < 200; ++round) {
    const Shape shape = testing::random_shape(random);
    const std::vector<Box> grid = testing::random_grid(random, shape);
    std::vector<RankState> ranks;
    for (const Box& box : grid) ranks.push_back({Value{{"t", part_of(numbers(shape), box)}}, {}});
    RankFolder folder = save_ranks(ranks);
    if (round % 2 == 1) folder.files.erase(std::string(kManifestName));  // as DCP's own
    const ShardReader reader(folder.folder());
    ASSERT_EQ(reader.find("t")->shape, shape);
    for (int part = 0; part < 5; ++part) {
      Box box{Shape(shape.size()), Shape(shape.size())};
      for (std::size_t d = 0; d < shape.size(); ++d) {
        box.offset[d] = static_cast<std::int64_t>(random() % (static_cast<std::uint64_t>(shape[d]) + 1));
        box.size[d] = static_cast<std::int64_t>(random() % (static_cast<std::uint64_t>(shape[d] - box.offset[d]) + 1));
      }
      Tensor target = zeros(box.size);
      if (part % 2 == 1 && shape.size() == 2)
        target = [&] {  // column-major
          Tensor turned = zeros({box.size[1], box.size[0]});
          std::swap(turned.sizes[0], turned.sizes[1]);
          std::swap(turned.strides[0], turned.strides[1]);
          return turned;
        }();
      reader.read({{{"t", box, target}}}, 1);
      EXPECT_EQ(target.to_vector<float>(), testing::box_of_numbers(box, shape).to_vector<float>());
    }
  }
}

constexpr std::int64_t kRows = 16, kColumns = 1 << 18;  // a row is a MiB

RankFolder folder_of_blocks() {
  const Tensor whole = numbers({kRows, kColumns});
  std::vector<RankState> ranks;
  for (std::int64_t rank = 0; rank < 2; ++rank)
    ranks.push_back({Value{{"t", part_of(whole, Box({rank * kRows / 2, 0}, {kRows / 2, kColumns}))}}, {}});
  return save_ranks(ranks);
}

TEST(ShardReader, ReadsWhatIsWantedAndTwoBlocksARun) {
  const RankFolder folder = folder_of_blocks();
  const ShardReader reader(folder.folder());
  const auto bytes_of = [&](const Box& box) {
    const Tensor target = zeros(box.size);
    reader.read({{{"t", box, target}}}, 1);  // opens the files, of which the tails are read once
    folder.bytes_read->clear();
    reader.read({{{"t", box, target}}}, 1);
    std::uint64_t sum = 0;
    for (const auto& [name, bytes] : *folder.bytes_read) sum += bytes;
    return sum;
  };
  constexpr std::uint64_t kMiB = BlockCrcs::kBlock;
  EXPECT_EQ(bytes_of(Box({3, 0}, {4, kColumns})), 4 * kMiB);
  EXPECT_EQ(bytes_of(Box({3, 7}, {1, 1})), kMiB);
  EXPECT_EQ(bytes_of(Box({7, 0}, {2, kColumns})), 2 * kMiB);  // one of each file
  EXPECT_EQ(bytes_of(Box({0, 0}, {kRows, kColumns})), kRows * kMiB);
  EXPECT_EQ(bytes_of(Box({5, 0}, {0, kColumns})), 0u);
}

TEST(ShardReader, ADamagedBlockIsFoundByThoseWhoReadItAndOnlyThem) {
  RankFolder folder = folder_of_blocks();
  const Manifest manifest = folder.manifest();
  folder.files["__1_0.distcp"][manifest.chunks.offset[1] + 5 * BlockCrcs::kBlock + 9] ^= 1;  // row 13
  const ShardReader reader(folder.folder());
  const auto read_row = [&](std::int64_t row) {
    reader.read({{{"t", Box({row, 0}, {1, kColumns}), zeros({1, kColumns})}}}, 1);
  };
  for (std::int64_t row = 0; row < kRows; ++row) {
    if (row != 13) read_row(row);
  }
  EXPECT_ERROR(read_row(13), Code::corrupt, "ckpt/__1_0.distcp");
  EXPECT_ERROR(read_row(13), Code::corrupt, "'t'");
  EXPECT_ERROR(read_row(13), Code::corrupt, "of rank 1, have changed");
  folder.files.erase(std::string(kManifestName));  // of a foreign folder a chunk is checked as a whole
  const ShardReader foreign(folder.folder());
  foreign.read({{{"t", Box({3, 5}, {2, 9}), zeros({2, 9})}}}, 1);
  EXPECT_ERROR(foreign.read({{{"t", Box({9, 5}, {2, 9}), zeros({2, 9})}}}, 1), Code::corrupt, "CRC-32");
}

TEST(ShardReader, RequestsThatDoNotFitAreAllNamedBeforeAnythingIsRead) {
  const RankFolder folder = sample_rank_folder();
  const ShardReader reader(folder.folder());
  EXPECT_EQ(reader.world(), 2u);
  EXPECT_EQ(reader.save(), "one");
  EXPECT_EQ(reader.structure()["n"].to<int>(), 7);
  EXPECT_EQ(reader.own(1)["seed"].to<int>(), 1);
  const Tensor good = zeros({6, 4});
  Tensor halves = zeros({6, 4});
  halves.dtype = DType::int32;
  const std::vector<BoxRequest> requests = {{"w", Box({0, 0}, {6, 4}), good},
                                            {"v", Box({0}, {1}), zeros({1})},
                                            {"w", Box({5, 0}, {2, 4}), zeros({2, 4})},
                                            {"w", Box({0, 0}, {6, 4}), halves},
                                            {"bias", Box({0}, {3}), zeros({2})}};
  EXPECT_ERROR(reader.read(requests), Code::mismatch, "'v': no tensor of this name");
  EXPECT_ERROR(reader.read(requests), Code::mismatch, "'w': [5:7, 0:4] of a tensor of shape [6, 4]");
  EXPECT_ERROR(reader.read(requests), Code::mismatch, "float32 in the folder, and the target is int32");
  EXPECT_ERROR(reader.read(requests), Code::mismatch, "'bias': [0:3] for a target of shape [2]");
  EXPECT_EQ(good.to_vector<float>(), std::vector<float>(24, 0.0F));
}

}  // namespace
}  // namespace torchkeep
