// SPDX-License-Identifier: BSD-3-Clause
// States that are spread over ranks, saved by one number of ranks and loaded by another.
#include <functional>
#include <gtest/gtest.h>
#include <map>
#include <numeric>
#include <string>
#include <thread>
#include <vector>

#include <torchkeep/checkpoint/checkpoint.h>
#include <torchkeep/run/sharded.h>

#include "support/fault_fs.h"
#include "support/temp_dir.h"
#include "support/whole_file.h"

namespace torchkeep {
namespace {

using torchkeep::testing::read_file;
using torchkeep::testing::TempDir;

constexpr std::int64_t kRows = 7, kColumns = 5;

std::vector<float> numbers() {
  std::vector<float> all(kRows * kColumns);
  std::iota(all.begin(), all.end(), 0.5F);
  return all;
}

/// Rows [begin, end) of the table, as a rank of `world` holds them; those of the last rank may be none.
Tensor rows_of(std::int64_t rank, std::int64_t world) {
  const std::int64_t each = (kRows + world - 1) / world;
  const std::int64_t begin = std::min(rank * each, kRows), end = std::min(begin + each, kRows);
  const std::vector<float> all = numbers();
  const std::vector<float> own(all.begin() + begin * kColumns, all.begin() + end * kColumns);
  Tensor tensor = Tensor::of<float>({end - begin, kColumns}, own);
  tensor.shard = std::make_shared<const Shard>(Shard{.global = {kRows, kColumns}, .offset = {begin, 0}});
  return tensor;
}

Tensor columns_of(std::int64_t rank, std::int64_t world) {
  const std::int64_t each = (kColumns + world - 1) / world;
  const std::int64_t begin = std::min(rank * each, kColumns), end = std::min(begin + each, kColumns);
  const std::vector<float> all = numbers();
  std::vector<float> own;
  for (std::int64_t row = 0; row < kRows; ++row) {
    own.insert(own.end(), all.begin() + row * kColumns + begin, all.begin() + row * kColumns + end);
  }
  Tensor tensor = Tensor::of<float>({kRows, end - begin}, own);
  tensor.shard = std::make_shared<const Shard>(Shard{.global = {kRows, kColumns}, .offset = {0, begin}});
  return tensor;
}

RankState state_of(std::int64_t rank, std::int64_t world) {
  Value model = Value::mapping(Kind::dict);
  model.set("rows", Value(rows_of(rank, world)));
  model.set("columns", Value(columns_of(rank, world)));
  model.set("bias", Value(Tensor::of<double>({3}, {1.0, -0.0, 3.0})));
  RankState state{Value::mapping(Kind::dict), Value::mapping(Kind::dict)};
  state.state.set("model", model);
  state.state.set("step", std::int64_t{12});
  state.own.set("seed", rank);
  return state;
}

/// Does something on every rank, each a thread; returns what each threw.
std::vector<std::string> on_ranks(const std::string& board, std::size_t world,
                                  const std::function<void(RankGroup&)>& work) {
  std::vector<std::string> errors(world);
  std::vector<std::thread> threads;
  for (std::size_t rank = 0; rank < world; ++rank) {
    threads.emplace_back([&, rank] {
      RankGroup group(folder_peers(posix_fs(), board, rank, world), {.host = "n", .poll = 0.001});
      try {
        work(group);
      } catch (const Error& error) {
        errors[rank] = error.what();
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  return errors;
}

void save_by(std::size_t world, const TempDir& folder) {
  const auto errors = on_ranks(folder / "board", world, [&](RankGroup& group) {
    const RankState state = state_of(static_cast<std::int64_t>(group.rank()), static_cast<std::int64_t>(group.world()));
    save_sharded(state, folder / "checkpoint", group, {.save = {.read_back = true}});
  });
  for (const std::string& error : errors) EXPECT_EQ(error, "");
}

TEST(Sharded, OneProcessLoadsTheWholeOfWhatAnyNumberOfRanksSaved) {
  for (std::size_t world = 1; world <= 4; ++world) {
    const TempDir folder;
    save_by(world, folder);
    const Value whole = load(folder / "checkpoint");
    for (const char* const name : {"rows", "columns"}) {
      EXPECT_EQ(whole["model"][name].as_tensor().to_vector<float>(), numbers()) << world << " ranks, " << name;
    }
    EXPECT_EQ(whole["model"]["bias"].as_tensor().contiguous_bytes(),
              Tensor::of<double>({3}, {1.0, -0.0, 3.0}).contiguous_bytes());
    EXPECT_EQ(whole["step"].to<std::int64_t>(), 12);
    verify(folder / "checkpoint");
  }
}

TEST(Sharded, AnyNumberOfRanksLoadsItsPartsOfWhatAnotherNumberSaved) {
  for (const std::size_t saved : {1U, 3U}) {
    const TempDir folder;
    save_by(saved, folder);
    for (std::size_t world = 1; world <= 4; ++world) {
      const auto errors = on_ranks(folder / ("load-" + std::to_string(world)), world, [&](RankGroup& group) {
        const RankState wanted =
            state_of(static_cast<std::int64_t>(group.rank()), static_cast<std::int64_t>(group.world()));
        const Value loaded = load_sharded(folder / "checkpoint", wanted.state, group);
        for (const char* const name : {"rows", "columns", "bias"}) {
          const Tensor found = loaded["model"][name].as_tensor(), expected = wanted.state["model"][name].as_tensor();
          EXPECT_EQ(found.sizes, expected.sizes);
          EXPECT_EQ(found.contiguous_bytes(), expected.contiguous_bytes()) << saved << " to " << world << ": " << name;
        }
      });
      for (const std::string& error : errors) EXPECT_EQ(error, "");
    }
  }
}

TEST(Sharded, CopiesThatDifferAreNamedAndNothingAppears) {
  const TempDir folder;
  const auto errors = on_ranks(folder / "board", 3, [&](RankGroup& group) {
    RankState state = state_of(static_cast<std::int64_t>(group.rank()), 3);
    Value model = state.state["model"];
    if (group.rank() == 2) model.set("bias", Value(Tensor::of<double>({3}, {1.0, 2.0, 4.0})));
    state.state.set("model", model);
    save_sharded(state, folder / "checkpoint", group);
  });
  for (const std::string& error : errors) {
    EXPECT_NE(error.find("the save was abandoned: rank 0: "), std::string::npos) << error;
    EXPECT_NE(error.find("model.bias"), std::string::npos) << error;
  }
  EXPECT_EQ(posix_fs().list(folder / "."), std::vector<std::string>{"board"});
}

TEST(Sharded, ATensorThatNoRankHasWholeIsNotSaved) {
  const TempDir folder;
  const auto errors = on_ranks(folder / "board", 2, [&](RankGroup& group) {
    // As ranks of a larger training, of which two are not there.
    save_sharded(state_of(static_cast<std::int64_t>(group.rank()), 4), folder / "checkpoint", group);
  });
  for (const std::string& error : errors) EXPECT_NE(error.find("model."), std::string::npos) << error;
  EXPECT_FALSE(posix_fs().status(folder / "checkpoint"));
}

TEST(Sharded, DamageIsAnErrorOnAllRanksThatNamesTheFile) {
  const TempDir folder;
  save_by(3, folder);
  const std::string path = folder / "checkpoint/__1_0.distcp";
  const std::string row = rows_of(1, 3).contiguous_bytes();
  const std::size_t where = read_file(posix_fs(), path).find(row);
  ASSERT_NE(where, std::string::npos);
  posix_fs().open_write(path)->write_at(where, as_bytes("x"));
  const auto errors = on_ranks(folder / "load", 2, [&](RankGroup& group) {
    load_sharded(folder / "checkpoint", state_of(static_cast<std::int64_t>(group.rank()), 2).state, group);
  });
  for (const std::string& error : errors) EXPECT_NE(error.find("__1_0.distcp"), std::string::npos) << error;
}

TEST(Sharded, WhatDoesNotFitIsListedOnEveryRank) {
  const TempDir folder;
  save_by(2, folder);
  const auto errors = on_ranks(folder / "load", 2, [&](RankGroup& group) {
    Tensor other = rows_of(static_cast<std::int64_t>(group.rank()), 2);
    other.shard = std::make_shared<const Shard>(Shard{.global = {kRows, kColumns + 1}, .offset = {0, 0}});
    Value like = Value::mapping(Kind::dict), model = Value::mapping(Kind::dict);
    model.set("rows", Value(other));
    model.set("more", Value(other));
    like.set("model", model);
    load_sharded(folder / "checkpoint", like, group);
  });
  for (const std::string& error : errors) {
    EXPECT_NE(error.find("'model.rows': expected the whole tensor to be [7, 6], found [7, 5]"), std::string::npos)
        << error;
    EXPECT_NE(error.find("'model.more': not in the checkpoint"), std::string::npos) << error;
  }
}

/// A file of which a byte is another after it was written.
class FlippingFs final : public torchkeep::testing::FaultFs {
 public:
  FlippingFs() : FaultFs(posix_fs(), {}) {}
  void rename(const std::string& from, const std::string& to) override {
    FaultFs::rename(from, to);
    if (!to.ends_with("__1_0.distcp")) return;
    const std::size_t where = read_file(posix_fs(), to).find(rows_of(1, 2).contiguous_bytes());
    ASSERT_NE(where, std::string::npos);
    posix_fs().open_write(to)->write_at(where, as_bytes("x"));
  }
};

TEST(Sharded, AFileThatReadsBackOtherwiseAbandonsTheSave) {
  const TempDir folder;
  const auto errors = on_ranks(folder / "board", 2, [&](RankGroup& group) {
    FlippingFs fs;
    save_sharded(state_of(static_cast<std::int64_t>(group.rank()), 2), folder / "checkpoint", group,
                 {.save = {.read_back = true, .fs = &fs}});
  });
  for (const std::string& error : errors) {
    EXPECT_NE(error.find("rank 1 (n): "), std::string::npos) << error;
    EXPECT_NE(error.find("key 'model.rows': read back after it was written, CRC-32 is"), std::string::npos) << error;
  }
  EXPECT_FALSE(posix_fs().status(folder / "checkpoint"));
}

TEST(Sharded, AFolderThatIsThereIsNotReplaced) {
  const TempDir folder;
  save_by(2, folder);
  const std::string before = read_file(posix_fs(), folder / "checkpoint/manifest.pt");
  const auto errors = on_ranks(folder / "again", 2, [&](RankGroup& group) {
    save_sharded(state_of(static_cast<std::int64_t>(group.rank()), 2), folder / "checkpoint", group);
  });
  for (const std::string& error : errors) EXPECT_NE(error.find("abandoned"), std::string::npos) << error;
  EXPECT_EQ(read_file(posix_fs(), folder / "checkpoint/manifest.pt"), before);
}

}  // namespace
}  // namespace torchkeep
