// SPDX-License-Identifier: BSD-3-Clause
// Folders of torch.distributed.checkpoint: what is put together, and what is refused. python/tests/test_dcp.py compares
// with what PyTorch reads and writes.
#include <algorithm>
#include <gtest/gtest.h>
#include <random>

#include <torchkeep/format/dcp.h>
#include <torchkeep/format/open_file.h>

#include "shard/elements.h"
#include "support/dcp_folder.h"
#include "support/expect_error.h"
#include "support/file_parts.h"
#include "support/pt_files.h"

namespace torchkeep {
namespace {

using testing::DcpFolder;
using testing::sample_dcp_folder;

Value read(const DcpFolder& folder, const PtReadOptions& options = {}) {
  return open_dcp(folder.folder(), options).value.clone();
}

std::vector<float> counting(std::int64_t count) {
  std::vector<float> numbers(static_cast<std::size_t>(count));
  for (std::size_t i = 0; i < numbers.size(); ++i) numbers[i] = static_cast<float>(i);
  return numbers;
}

std::string bytes_of(const std::vector<float>& numbers) {
  return std::string(as_text(std::as_bytes(std::span(numbers))));
}

TEST(Dcp, ChunksOfTwoRanksAreOneTensor) {
  const Value state = read(sample_dcp_folder());
  EXPECT_EQ(state["w"].as_tensor().sizes, (Shape{6, 4}));
  EXPECT_EQ(state["w"].as_tensor().to_vector<float>(), counting(24));
  EXPECT_EQ(state["n"].to<int>(), 7);
}

// A random tensor in a random grid of chunks, some of them column-major in their files.
DcpFolder random_folder(std::mt19937& random, Shape& shape) {
  DcpFolder folder;
  shape = testing::random_shape(random);
  std::vector<Box> grid = testing::random_grid(random, shape);
  std::sort(grid.begin(), grid.end(), [](const Box& a, const Box& b) { return a.offset < b.offset; });
  std::vector<Box> chunks;
  for (const Box& box : grid) {  // DCP names a chunk by its offset: of those that begin together, one
    if (!is_empty(box) || (element_count(shape) == 0 && chunks.empty())) chunks.push_back(box);
  }
  std::shuffle(chunks.begin(), chunks.end(), random);
  for (const Box& box : chunks) {
    Tensor tensor = testing::box_of_numbers(box, shape);
    if (random() % 3 == 0 && shape.size() > 1) {  // the last two dimensions the other way round
      const Shape sizes = tensor.sizes;
      const std::size_t last = sizes.size() - 1;
      Shape order(sizes.size());
      for (std::size_t d = 0; d < order.size(); ++d) order[d] = static_cast<std::int64_t>(d);
      std::swap(tensor.sizes[last], tensor.sizes[last - 1]);
      std::swap(tensor.strides[last], tensor.strides[last - 1]);
      Tensor turned = Tensor::from_bytes(tensor.dtype, tensor.sizes, as_bytes(tensor.contiguous_bytes()));
      std::swap(turned.sizes[last], turned.sizes[last - 1]);
      std::swap(turned.strides[last], turned.strides[last - 1]);
      tensor = turned;
    }
    const std::string file = "__" + std::to_string(random() % 3) + "_0.distcp";
    folder.add_item(Value(tensor), {.fqn = "t", .offset = box.offset, .file = file});
  }
  folder.tensors.push_back({"t", shape, chunks});
  return folder;
}

TEST(Dcp, AnyGridOfChunksReadsAsTheWholeInWhateverPieces) {
  std::mt19937 random(7);
  for (int i = 0; i < 300; ++i) {
    Shape shape;
    const DcpFolder folder = random_folder(random, shape);
    const std::string expected = bytes_of(counting(element_count(shape).value()));
    const OpenedFile opened = open_dcp(folder.folder());
    const StoragePtr storage = opened.value["t"].as_tensor().storage;
    ASSERT_EQ(storage->nbytes(), expected.size());
    std::string whole(expected.size(), '\0');
    storage->read(0, std::as_writable_bytes(std::span(whole)));
    EXPECT_EQ(whole, expected);
    const StoragePtr fresh = open_dcp(folder.folder()).value["t"].as_tensor().storage;
    for (int part = 0; part < 10; ++part) {
      const auto begin = static_cast<std::size_t>(random() % (expected.size() + 1));
      std::string piece(random() % (expected.size() - begin + 1), '\0');
      fresh->read(begin, std::as_writable_bytes(std::span(piece)));
      EXPECT_EQ(piece, expected.substr(begin, piece.size()));
    }
    const auto reader = fresh->reader();
    std::string joined;
    while (joined.size() < expected.size()) {
      std::string piece(std::min<std::size_t>(1 + random() % 37, expected.size() - joined.size()), '\0');
      reader->read(std::as_writable_bytes(std::span(piece)));
      joined += piece;
    }
    EXPECT_EQ(joined, expected);
  }
}

TEST(Dcp, LargeChunksTakeTheDirectWayAndAreTheSame) {
  const Shape shape = {3, 200'000};
  DcpFolder folder;
  const std::vector<Box> chunks = {Box({0, 0}, {3, 70'001}), Box({0, 70'001}, {3, 129'999})};
  for (const Box& box : chunks) {
    folder.add_item(Value(testing::box_of_numbers(box, shape)), {.fqn = "t", .offset = box.offset});
  }
  folder.tensors.push_back({"t", shape, chunks});
  const std::string expected = bytes_of(counting(600'000));
  const StoragePtr storage = open_dcp(folder.folder()).value["t"].as_tensor().storage;
  std::string piece(1'300'000, '\0');
  storage->read(500'001, std::as_writable_bytes(std::span(piece)));
  EXPECT_EQ(piece, expected.substr(500'001, piece.size()));
  EXPECT_EQ(read(folder)["t"].as_tensor().contiguous_bytes(), expected);
}

TEST(Dcp, PlannerDataNestsAndGapsAreNone) {
  DcpFolder folder = sample_dcp_folder();
  folder.paths = DcpFolder::Paths{{"w", "model/a.b/#1/w"}, {"n", "step"}};
  const Value state = read(folder);
  EXPECT_EQ(state["step"].to<int>(), 7);
  EXPECT_TRUE(state["model"]["a.b"][0].is_none());
  EXPECT_EQ(state["model"]["a.b"][1]["w"].as_tensor().sizes, (Shape{6, 4}));
}

TEST(Dcp, PathsThatContradictEachOtherAreErrors) {
  DcpFolder folder = sample_dcp_folder();
  folder.paths = DcpFolder::Paths{{"w", "a/b"}, {"n", "a"}};
  EXPECT_ERROR(read(folder), Code::corrupt, "key 'n'");
  folder.paths = DcpFolder::Paths{{"w", "a/b"}, {"n", "a/#0"}};
  EXPECT_ERROR(read(folder), Code::corrupt, "path in planner_data");
  folder.paths = DcpFolder::Paths{{"w", "a"}, {"n", "a"}};
  EXPECT_ERROR(read(folder), Code::corrupt, "path in planner_data");
  folder.paths = DcpFolder::Paths{{"w", "a/#9000000000"}};
  EXPECT_ERROR(read(folder), Code::refused, "9000000000");
  std::string deep = "a";
  for (int i = 1; i < 1000; ++i) deep += "/a";
  folder.paths = DcpFolder::Paths{{"w", deep}};
  EXPECT_ERROR(read(folder), Code::refused, "1000 steps");
  folder.paths = DcpFolder::Paths{{"w", "#-1"}};
  EXPECT_ERROR(read(folder), Code::corrupt, "an index of -1");
}

// What DCP takes for a checkpoint and returns other numbers for.
TEST(Dcp, ChunkListsThatLieAreErrorsBeforeAnythingIsRead) {
  DcpFolder folder = sample_dcp_folder();
  folder.tensors[0].chunks.pop_back();
  EXPECT_ERROR(read(folder), Code::corrupt, "8 of 24 elements are in no chunk");
  folder.tensors[0].chunks = {Box({0, 0}, {4, 4}), Box({3, 0}, {3, 4})};
  EXPECT_ERROR(read(folder), Code::corrupt, "chunks [0:4, 0:4] and [3:6, 0:4] overlap");
  folder.tensors[0].chunks = {Box({0, 0}, {4, 4}), Box({4, 0}, {3, 4})};
  EXPECT_ERROR(read(folder), Code::corrupt, "outside");
  folder.tensors[0].chunks = {Box({0, 0}, {4, 4}), Box({4, 0}, {2, -4})};
  EXPECT_ERROR(read(folder), Code::corrupt, "key 'w'");
  folder.tensors[0].chunks = {Box({0}, {24})};
  EXPECT_ERROR(read(folder), Code::corrupt, "1 dimensions in a tensor of 2");
  folder = sample_dcp_folder();
  folder.tensors[0].shape = {6, -4};
  EXPECT_ERROR(read(folder), Code::corrupt, "no tensor has");
  folder.tensors[0].shape = {std::int64_t{1} << 40, std::int64_t{1} << 40};
  EXPECT_ERROR(read(folder), Code::corrupt, "no tensor has");
}

TEST(Dcp, AChunkWithoutAnItemIsAnError) {
  DcpFolder folder = sample_dcp_folder();
  folder.items.pop_back();
  EXPECT_ERROR(read(folder), Code::corrupt, "chunk [4:6, 0:4] has no item");
  folder = sample_dcp_folder();
  folder.items.erase(folder.items.begin() + 1);
  EXPECT_ERROR(read(folder), Code::corrupt, "key 'n': the value has no item");
  folder = sample_dcp_folder();
  folder.items.push_back(folder.items[0]);
  EXPECT_ERROR(read(folder), Code::corrupt, "two items for one chunk");
}

TEST(Dcp, AHintThatLiesChangesNothing) {
  DcpFolder folder = sample_dcp_folder();
  folder.items[0].index = 1;
  folder.items[2].index = 1'000'000'000;
  EXPECT_EQ(read(folder)["w"].as_tensor().to_vector<float>(), counting(24));
}

TEST(Dcp, ItemsLieInFilesOfTheFolderAndNowhereElse) {
  for (const char* name : {"../secret", "/etc/passwd", "a/b", "..", ".", "", "a\\b"}) {
    DcpFolder folder = sample_dcp_folder();
    folder.items[0].file = name;
    EXPECT_ERROR(read(folder), Code::refused, "must name a file in this folder") << name;
  }
  constexpr std::int64_t kMost = std::numeric_limits<std::int64_t>::max();
  const auto with_range = [](std::int64_t begin, std::int64_t length) {
    DcpFolder folder = sample_dcp_folder();
    folder.items[0].begin = begin;
    folder.items[0].length = length;
    return folder;
  };
  EXPECT_ERROR(read(with_range(0, 1'000'000)), Code::corrupt, "ckpt/__0_0.distcp");
  EXPECT_ERROR(read(with_range(1'000'000, 10)), Code::corrupt, "the file ends at");
  EXPECT_ERROR(read(with_range(-1, 10)), Code::corrupt, "an offset of -1");
  EXPECT_ERROR(read(with_range(0, -1)), Code::corrupt, "a length of -1");
  EXPECT_ERROR(read(with_range(kMost, kMost)), Code::corrupt, "no file is that long");
  EXPECT_ERROR(read(with_range(0, 10)), Code::corrupt, "key 'w'");
  EXPECT_ERROR(read(with_range(7, 400)), Code::corrupt, "item at byte 7");
}

TEST(Dcp, AnItemThatIsNotWhatWasPromisedIsAnError) {
  DcpFolder folder = sample_dcp_folder();
  folder.tensors[0].dtype = "float64";
  EXPECT_ERROR(read(folder), Code::corrupt, "the item holds a tensor of float32, .metadata promises float64");
  folder.tensors[0].dtype = "int32";
  EXPECT_ERROR(read(folder), Code::corrupt, "promises int32");
  folder = sample_dcp_folder();
  std::swap(folder.items[0].begin, folder.items[1].begin);
  std::swap(folder.items[0].length, folder.items[1].length);
  EXPECT_ERROR(read(folder), Code::corrupt, "the item holds a int, .metadata promises a tensor");
  // Rank files of another layout: the same names and places, another split.
  folder = sample_dcp_folder();
  folder.files["__1_0.distcp"] = testing::pt_bytes(Value(Tensor::of<float>({4, 2}, {1, 2, 3, 4, 5, 6, 7, 8})));
  folder.items[2].length = static_cast<std::int64_t>(folder.files["__1_0.distcp"].size());
  EXPECT_ERROR(read(folder), Code::corrupt, "shape [4, 2], .metadata promises [2, 4]");
}

TEST(Dcp, MissingFilesAreAllNamedWithTheirRanksAndTensors) {
  DcpFolder folder = sample_dcp_folder();
  folder.files.erase("__1_0.distcp");
  EXPECT_ERROR(read(folder), Code::corrupt, "missing: __1_0.distcp of rank 1 with 'w'");
  folder.files.erase("__0_0.distcp");
  EXPECT_ERROR(read(folder), Code::corrupt, "__0_0.distcp of rank 0 with 'w', 'n'; __1_0.distcp of rank 1 with 'w'");
}

TEST(Dcp, WithoutMetadataItSaysWhatIsThereAndWhichRanksAreMissing) {
  DcpFolder folder = sample_dcp_folder();
  folder.files["__3_0.distcp"] = "";
  folder.files["__3_1.distcp"] = "";
  EXPECT_ERROR(open_dcp(folder.folder(false)), Code::corrupt,
               "There are 4 data files of ranks 0, 1, 3, and none of rank 2");
  EXPECT_ERROR(open_dcp(DcpFolder().folder(false)), Code::unsupported, "has no .metadata");
  folder.metadata = "";
  EXPECT_ERROR(read(folder), Code::corrupt, "ckpt/.metadata: the file is empty");
}

TEST(Dcp, FoldersAreKnownByTheirNames) {
  const auto is_one = [](std::vector<std::string> names) { return is_dcp_folder(names); };
  EXPECT_TRUE(is_one({"x", ".metadata"}));
  EXPECT_TRUE(is_one({"__12_3.distcp"}));
  EXPECT_TRUE(is_one({"__0.metadata"}));
  EXPECT_FALSE(is_one({}));
  EXPECT_FALSE(is_one({"step-00000001.pt", "metadata", "__a_0.distcp", "__1.distcp", "__-1_0.distcp", "__1_.distcp"}));
}

TEST(Dcp, EveryTruncationIsFound) {
  const DcpFolder good = sample_dcp_folder();
  for (const auto& [name, bytes] : good.files) {
    for (std::size_t size = 0; size < bytes.size(); size += 7) {
      DcpFolder folder = good;
      folder.files[name].resize(size);
      EXPECT_ERROR(read(folder), Code::corrupt, "ckpt/" + name) << size;
    }
  }
  const std::string metadata = good.metadata_bytes();
  for (std::size_t size = 0; size < metadata.size(); ++size) {
    DcpFolder folder = good;
    folder.metadata = metadata.substr(0, size);
    EXPECT_ERROR(read(folder), Code::corrupt, "ckpt/.metadata") << size;
  }
}

TEST(Dcp, EveryFlippedByteIsFoundOrMeansNothing) {
  const DcpFolder good = sample_dcp_folder();
  const Value expected = read(good);
  std::size_t found = 0, all = 0;
  for (const auto& [name, bytes] : good.files) {
    for (std::size_t i = 0; i < bytes.size(); ++i) {
      DcpFolder folder = good;
      folder.files[name][i] ^= 0x40;
      ++all;
      try {
        const Value state = read(folder);
        EXPECT_EQ(state, expected) << name << " at " << i;
      } catch (const Error&) {
        ++found;
      }
    }
  }
  EXPECT_GT(found, all / 3);
}

TEST(Dcp, AFlippedByteOfATensorNamesFileItemAndTensor) {
  DcpFolder folder = sample_dcp_folder();
  const float number = 21;
  std::string& file = folder.files["__1_0.distcp"];
  const std::size_t place = file.find(std::string(as_text(std::as_bytes(std::span(&number, 1)))));
  ASSERT_NE(place, std::string::npos);
  file[place + 2] ^= 1;
  EXPECT_ERROR(read(folder), Code::corrupt, "ckpt/__1_0.distcp: item at byte 0: key 'w': CRC-32 is");
  const StoragePtr storage = open_dcp(folder.folder()).value["w"].as_tensor().storage;
  std::byte last{};
  EXPECT_ERROR(storage->read(95, {&last, 1}), Code::corrupt, "chunk [4:6, 0:4]");
  storage->read(0, {&last, 1});  // of the other rank
  EXPECT_NO_THROW(read(folder, {.verify = false}));
  const FileCheck check = check_dcp(folder.folder());
  EXPECT_FALSE(check.good());
  EXPECT_EQ(check.count(CheckedRecord::State::damaged), 1u);
  EXPECT_EQ(check.records[1].tensors, (std::vector<std::string>{"w"}));
}

TEST(Dcp, CheckCountsWhatIsThereAndFindsStaleFiles) {
  DcpFolder folder = sample_dcp_folder();
  folder.files["__7_0.distcp"] = "old";
  const FileCheck check = check_dcp(folder.folder());
  EXPECT_TRUE(check.good());
  EXPECT_EQ(check.tensors, 1u);
  EXPECT_EQ(check.records.size(), 3u);
  ASSERT_EQ(check.notes.size(), 1u);
  EXPECT_NE(check.notes[0].find("__7_0.distcp"), std::string::npos);
  folder.files.erase("__1_0.distcp");
  EXPECT_FALSE(check_dcp(folder.folder()).good());
}

TEST(Dcp, GlobalsThatAttackAreRefusedWithTheirPlace) {
  DcpFolder folder = sample_dcp_folder();
  folder.extra = testing::parts::text("x") +
                 testing::parts::call(testing::parts::global("posix", "system"), {testing::parts::text("true")});
  EXPECT_ERROR(read(folder), Code::refused, "refused global 'posix.system'");
  EXPECT_ERROR(read(folder), Code::refused, ".metadata at byte");
  EXPECT_NO_THROW(read(folder, {.unknown_classes = UnknownClasses::inspect}));
}

TEST(Dcp, OtherPeoplesClassesAreKeptAndTheirBaseFieldsRead) {
  DcpFolder folder = sample_dcp_folder();
  folder.metadata_class = "megatron.core.dist_checkpointing\nMCoreMetadata";
  folder.extra = testing::parts::text("mcore_data") + testing::parts::empty_dict();
  const OpenedFile opened = open_dcp(folder.folder());
  EXPECT_EQ(opened.value["n"].to<int>(), 7);
  ASSERT_EQ(opened.notes.size(), 1u);
  EXPECT_NE(opened.notes[0].find("MCoreMetadata"), std::string::npos);
  EXPECT_ERROR(read(folder, {.unknown_classes = UnknownClasses::refuse}), Code::refused, "MCoreMetadata");
  EXPECT_NO_THROW(read(sample_dcp_folder(), {.unknown_classes = UnknownClasses::refuse}));
}

// PyTorch 2.0 to 2.3 had other modules, Python 3.11 named members of enumerations by getattr.
TEST(Dcp, OlderSpellingsOfTheSameAreReadWithoutUnknownClasses) {
  using namespace testing::parts;
  constexpr const char* kOld = "torch.distributed._shard.sharded_tensor.metadata";
  constexpr const char* kNew = "torch.distributed.checkpoint.metadata";
  const std::string layout = call(global("torch.serialization", "_get_layout"), {text("torch.strided")});
  const auto properties = [&](const char* module, const std::string& format) {
    return global(module, "TensorProperties") + ")\x81" +
           tuple({global("torch", "float32"), layout, "\x89", format, "\x89"}) + "b";
  };
  const std::string by_name = text("TORCH_CONTIGUOUS_FORMAT");
  for (const std::string& one : {
           properties(kOld, call(global(kOld, "MEM_FORMAT_ENCODING"), {number(0)})),
           properties(kNew, call(global("builtins", "getattr"), {global(kNew, "_MEM_FORMAT_ENCODING"), by_name})),
           properties(kOld, call(global("__builtin__", "getattr"), {global(kOld, "MEM_FORMAT_ENCODING"), by_name})),
       }) {
    DcpFolder folder = sample_dcp_folder();
    folder.tensors[0].properties = one;
    folder.extra = text("storage_meta") + global(kNew, "StorageMeta") + ")\x81}(" + text("checkpoint_id") +
                   call(global("pathlib._local", "PosixPath"), {text("/"), text("ckpt")}) + "ub";
    const Value state = read(folder, {.unknown_classes = UnknownClasses::refuse});
    EXPECT_EQ(state["w"].as_tensor().to_vector<float>(), counting(24));
  }
}

TEST(Dcp, ADtypeThatIsNotKnownIsUnsupportedByName) {
  DcpFolder folder = sample_dcp_folder();
  folder.tensors[0].dtype = "float7";
  EXPECT_ERROR(read(folder), Code::unsupported, "torch.float7");
}

TEST(Dcp, APickleThatIsNoMetadataIsNone) {
  DcpFolder folder = sample_dcp_folder();
  folder.metadata = testing::parts::pickle(testing::parts::empty_dict());
  EXPECT_ERROR(read(folder), Code::unsupported, "state_dict_metadata");
}

TEST(Dcp, WhatAnExtensionOrAnotherFormatWroteIsUnsupportedByName) {
  DcpFolder folder = sample_dcp_folder();
  folder.items[0].transform = "stream.zstd/1";
  const OpenedFile opened = open_dcp(folder.folder());  // it can still be listed
  EXPECT_ERROR(opened.value.clone(), Code::unsupported, "stream.zstd/1");
  folder = sample_dcp_folder();
  folder.files["__1_0.distcp"] = testing::parts::safetensors(
      R"({"w":{"dtype":"F32","shape":[2,4],"data_offsets":[0,32]}})", std::string(32, '\0'));
  folder.items[2].length = 32;
  EXPECT_ERROR(read(folder), Code::unsupported, "safetensors");
}

// 1e6 chunks that are one object in the pickle.
TEST(Dcp, ASmallMetadataCannotMakeMuch) {
  using namespace testing::parts;
  const auto object = [](const char* name) { return global("torch.distributed.checkpoint.metadata", name) + ")\x81"; };
  std::string shape = "(";
  for (int i = 0; i < 64; ++i) shape += number(1);
  const std::string size = call(global("torch", "Size"), {shape + "t"});
  std::string chunks =
      "](" + object("ChunkStorageMetadata") + "}(" + text("offsets") + size + text("sizes") + size + "ub" + "q\x05";
  for (int i = 0; i < 1'000'000; ++i) chunks += "h\x05";
  const std::string properties = object("TensorProperties") + tuple({global("torch", "float32")}) + "b";
  const std::string tensor = object("TensorStorageMetadata") + "}(" + text("properties") + properties + text("size") +
                             size + text("chunks") + chunks + "e" + "ub";
  DcpFolder folder;
  folder.metadata = pickle(object("Metadata") + "}(" + text("state_dict_metadata") + "}(" + text("w") + tensor + "u" +
                           text("storage_data") + empty_dict() + "ub");
  EXPECT_ERROR(read(folder), Code::refused, "makes more of its bytes");
}

// --- use_collectives=False: each rank wrote a .metadata of its own

struct Ranks {
  DcpFolder first = {}, second = {};

  Folder folder() const {
    DcpFolder all;
    all.files = first.files;
    all.files.insert(second.files.begin(), second.files.end());
    all.files["__0.metadata"] = first.metadata_bytes();
    all.files["__1.metadata"] = second.metadata_bytes();
    return all.folder(false);
  }
};

Ranks two_ranks() {
  Ranks ranks;
  const Shape shape = {6, 4};
  const Box first({0, 0}, {4, 4}), second({4, 0}, {2, 4});
  ranks.first.tensors.push_back({"w", shape, {first}});
  ranks.first.values.emplace_back("n");
  ranks.second = ranks.first;
  ranks.second.tensors[0].chunks = {second};
  ranks.first.add_item(Value(testing::box_of_numbers(first, shape)), {.fqn = "w", .offset = first.offset});
  ranks.first.add_item(Value(7), {.fqn = "n"});
  ranks.second.add_item(Value(testing::box_of_numbers(second, shape)),
                        {.fqn = "w", .offset = second.offset, .file = "__1_0.distcp"});
  ranks.second.add_item(Value(7), {.fqn = "n", .file = "__1_0.distcp"});
  return ranks;
}

TEST(DcpRanks, AreMergedWhenTheyCoverEveryTensor) {
  const Value state = open_dcp(two_ranks().folder()).value.clone();
  EXPECT_EQ(state["w"].as_tensor().to_vector<float>(), counting(24));
  EXPECT_EQ(state["n"].to<int>(), 7);
  EXPECT_TRUE(check_dcp(two_ranks().folder()).good());
}

TEST(DcpRanks, AMissingRankIsNamed) {
  Ranks ranks = two_ranks();
  Folder folder = ranks.folder();
  std::erase(folder.files, "__1.metadata");
  EXPECT_ERROR(open_dcp(folder), Code::corrupt, "8 of 24 elements are in no chunk");
  folder = ranks.folder();
  std::erase(folder.files, "__0.metadata");
  EXPECT_ERROR(open_dcp(folder), Code::corrupt, "those of rank 0 are missing");
}

TEST(DcpRanks, ThatContradictEachOtherAreErrors) {
  Ranks ranks = two_ranks();
  ranks.second.tensors[0].dtype = "float64";
  EXPECT_ERROR(open_dcp(ranks.folder()), Code::corrupt, "rank 1 has another dtype or shape");
  ranks = two_ranks();
  ranks.second.tensors[0].chunks = {Box({3, 0}, {3, 4})};
  EXPECT_ERROR(open_dcp(ranks.folder()), Code::corrupt, "overlap");
}

TEST(DcpRanks, ValuesThatDifferAreNamed) {
  Ranks ranks = two_ranks();
  ranks.second.items.pop_back();
  ranks.second.add_item(Value(8), {.fqn = "n", .file = "__1_0.distcp"});
  const OpenedFile opened = open_dcp(ranks.folder());
  EXPECT_EQ(opened.value["n"].to<int>(), 7);
  ASSERT_FALSE(opened.notes.empty());
  const bool named = std::any_of(opened.notes.begin(), opened.notes.end(), [](const std::string& note) {
    return note.find("'n' of rank 1 is another one") != std::string::npos;
  });
  EXPECT_TRUE(named);
}

TEST(DcpRanks, TensorsThatAllHaveAndThatDifferAreNamed) {
  Ranks ranks = two_ranks();
  const Box all({0}, {3});
  for (DcpFolder* rank : {&ranks.first, &ranks.second}) {
    rank->tensors.push_back({"buffer", {3}, {all}});
    rank->tensors.push_back({"other", {3}, {all}});
  }
  const auto add = [&](DcpFolder& rank, const char* fqn, const char* file, float last) {
    rank.add_item(Value(Tensor::of<float>({3}, {1, 2, last})), {.fqn = fqn, .offset = Shape{0}, .file = file});
  };
  add(ranks.first, "buffer", "__0_0.distcp", 3);
  add(ranks.first, "other", "__0_0.distcp", 3);
  add(ranks.second, "buffer", "__1_0.distcp", 4);
  add(ranks.second, "other", "__1_0.distcp", 3);
  const OpenedFile opened = open_dcp(ranks.folder());
  EXPECT_EQ(opened.value["buffer"].as_tensor().to_vector<float>(), (std::vector<float>{1, 2, 3}));
  std::vector<std::string> named;
  for (const std::string& note : opened.notes) {
    if (note.find("is another one") != std::string::npos) named.push_back(note);
  }
  ASSERT_EQ(named.size(), 1u);
  EXPECT_NE(named[0].find("'buffer' of rank 1"), std::string::npos);
  EXPECT_EQ(check_dcp(ranks.folder()).records.size(), 8u);
}

}  // namespace
}  // namespace torchkeep
