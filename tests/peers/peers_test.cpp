// SPDX-License-Identifier: BSD-3-Clause
// What every board promises: in memory, in a folder of the real file system and of the one in memory, behind functions
// and behind a prefix.
#include <gtest/gtest.h>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include <torchkeep/peers/peers.h>

#include "support/expect_error.h"
#include "support/memory_fs.h"
#include "support/temp_dir.h"

namespace torchkeep {
namespace {

constexpr std::size_t kWorld = 4;

/// A board, and what each rank sees of it.
class Ground {
 public:
  virtual ~Ground() = default;
  virtual std::unique_ptr<Peers> peers(std::size_t rank) = 0;
};

class InMemory final : public Ground {
 public:
  std::unique_ptr<Peers> peers(std::size_t rank) override { return board_.peers(rank, kWorld); }

 private:
  PeerBoard board_;
};

class InFolder final : public Ground {
 public:
  std::unique_ptr<Peers> peers(std::size_t rank) override {
    return folder_peers(posix_fs(), folder_ / "deep/board", rank, kWorld);
  }

 private:
  torchkeep::testing::TempDir folder_;
};

class InMemoryFolder final : public Ground {
 public:
  std::unique_ptr<Peers> peers(std::size_t rank) override { return folder_peers(fs_, "/board/", rank, kWorld); }

 private:
  torchkeep::testing::MemoryFs fs_;
};

class BehindFunctions final : public Ground {
 public:
  std::unique_ptr<Peers> peers(std::size_t rank) override {
    const std::shared_ptr<Peers> inner = board_.peers(rank, kWorld);
    return peers_from({.put = [inner](const std::string& key, std::string_view value) { inner->put(key, value); },
                       .get = [inner](const std::string& key) { return inner->get(key); },
                       .add = [inner](const std::string& key, std::int64_t n) { return inner->add(key, n); }},
                      rank, kWorld);
  }

 private:
  PeerBoard board_;
};

class BehindAPrefix final : public Ground {
 public:
  std::unique_ptr<Peers> peers(std::size_t rank) override {
    inner_.push_back(board_.peers(rank, kWorld));
    inner_.back()->put("key", "of another");
    return with_prefix(*inner_.back(), "run/");
  }

 private:
  PeerBoard board_;
  std::vector<std::unique_ptr<Peers>> inner_;
};

template <class T>
std::unique_ptr<Ground> make() {
  return std::make_unique<T>();
}

class EveryBoard : public ::testing::TestWithParam<std::unique_ptr<Ground> (*)()> {
 protected:
  std::unique_ptr<Ground> ground_ = GetParam()();
};

INSTANTIATE_TEST_SUITE_P(Boards, EveryBoard,
                         ::testing::Values(make<InMemory>, make<InFolder>, make<InMemoryFolder>, make<BehindFunctions>,
                                           make<BehindAPrefix>));

TEST_P(EveryBoard, KnowsItsRankAndWorld) {
  EXPECT_EQ(ground_->peers(2)->rank(), 2U);
  EXPECT_EQ(ground_->peers(2)->world(), kWorld);
}

TEST_P(EveryBoard, GivesEveryRankTheNewestValueOfAKey) {
  const auto a = ground_->peers(0), b = ground_->peers(3);
  EXPECT_EQ(b->get("key"), std::nullopt);
  a->put("key", "old");
  a->put("key", "new");
  EXPECT_EQ(a->get("key"), "new");
  EXPECT_EQ(b->get("key"), "new");
  EXPECT_EQ(b->get("other"), std::nullopt);
}

TEST_P(EveryBoard, KeepsValuesOfAnyBytes) {
  const auto a = ground_->peers(0), b = ground_->peers(1);
  std::string bytes;
  for (int i = 0; i < 512; ++i) bytes += static_cast<char>(i);
  a->put("bytes", bytes);
  a->put("empty", "");
  EXPECT_EQ(b->get("bytes"), bytes);
  EXPECT_EQ(b->get("empty"), "");
}

TEST_P(EveryBoard, NoTwoKeysAreOne) {
  const auto a = ground_->peers(0);
  const std::vector<std::string> keys{"a/b", "a%2Fb", "a.b", "a_b", ".a", "..", "a/b.value", "A"};
  for (const std::string& key : keys) a->put(key, "of " + key);
  for (const std::string& key : keys) EXPECT_EQ(a->get(key), "of " + key);
}

TEST_P(EveryBoard, TheLastOfConcurrentAdditionsSeesTheSum) {
  std::vector<std::int64_t> sums(kWorld);
  std::vector<std::unique_ptr<Peers>> peers;
  for (std::size_t rank = 0; rank < kWorld; ++rank) peers.push_back(ground_->peers(rank));
  std::vector<std::thread> threads;
  for (std::size_t rank = 0; rank < kWorld; ++rank) {
    threads.emplace_back([&, rank] {
      for (int i = 0; i < 50; ++i) sums[rank] = peers[rank]->add("arrived", 1);
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(*std::max_element(sums.begin(), sums.end()), 50 * static_cast<std::int64_t>(kWorld));
  EXPECT_EQ(peers[0]->add("arrived", 0), 50 * static_cast<std::int64_t>(kWorld));
  EXPECT_EQ(peers[0]->add("arrived", -10), 50 * static_cast<std::int64_t>(kWorld) - 10);
  EXPECT_EQ(peers[0]->add("another", 0), 0);
}

TEST_P(EveryBoard, RefusesAValueThatAStoreWouldDrop) {
  const auto a = ground_->peers(0);
  a->put("key", std::string(kLargestPeerValue, 'x'));
  EXPECT_ERROR(a->put("key", std::string(kLargestPeerValue + 1, 'x')), Code::invalid_argument, "at most 4194304 bytes");
}

TEST(Peers, ARankOutsideOfTheWorldIsRefused) {
  PeerBoard board;
  torchkeep::testing::MemoryFs fs;
  EXPECT_ERROR(board.peers(4, 4), Code::invalid_argument, "a rank below the world size 4, found 4");
  EXPECT_ERROR(folder_peers(fs, "/board", 1, 0), Code::invalid_argument, "world size 0");
  EXPECT_ERROR(peers_from({}, 0, 1), Code::invalid_argument, "put, get and add");
}

}  // namespace
}  // namespace torchkeep
