// SPDX-License-Identifier: BSD-3-Clause
// Work shared among threads: each index once, errors once, none lost.
#include <atomic>
#include <gtest/gtest.h>
#include <mutex>
#if defined(__linux__)
#include <sched.h>
#endif
#include <set>
#include <thread>
#include <vector>

#include <torchkeep/base/error.h>
#include <torchkeep/base/parallel.h>

namespace torchkeep {
namespace {

#if defined(__linux__)
TEST(UsableCores, AreThoseThatTheProcessMayRunOn) {
  cpu_set_t before;
  ASSERT_EQ(::sched_getaffinity(0, sizeof(before), &before), 0);
  EXPECT_EQ(usable_cores(), static_cast<unsigned>(CPU_COUNT(&before)));
  if (CPU_COUNT(&before) == 1) GTEST_SKIP() << "this process may run on one core only";
  int first = 0;
  while (!CPU_ISSET(first, &before)) ++first;
  cpu_set_t one;
  CPU_ZERO(&one);
  CPU_SET(first, &one);
  ASSERT_EQ(::sched_setaffinity(0, sizeof(one), &one), 0);
  EXPECT_EQ(usable_cores(), 1u);
  ASSERT_EQ(::sched_setaffinity(0, sizeof(before), &before), 0);
}
#endif

TEST(ParallelFor, CallsEveryIndexOnce) {
  for (const unsigned threads : {0u, 1u, 2u, 7u}) {
    std::vector<std::atomic<int>> calls(1000);
    parallel_for(calls.size(), threads, [&](std::uint64_t i) { ++calls[i]; });
    for (const auto& count : calls) ASSERT_EQ(count, 1);
  }
}

TEST(ParallelFor, DoesNothingForNothing) {
  parallel_for(0, 4, [](std::uint64_t) { FAIL(); });
}

TEST(ParallelFor, OneThreadIsTheCallersAndGoesInOrder) {
  std::vector<std::uint64_t> order;
  parallel_for(5, 1, [&, caller = std::this_thread::get_id()](std::uint64_t i) {
    EXPECT_EQ(std::this_thread::get_id(), caller);
    order.push_back(i);
  });
  EXPECT_EQ(order, (std::vector<std::uint64_t>{0, 1, 2, 3, 4}));
}

TEST(ParallelFor, WorksFromAsManyThreadsAsAskedFor) {
  std::mutex mutex;
  std::set<std::thread::id> seen;
  std::atomic<int> waiting{0};
  parallel_for(3, 3, [&](std::uint64_t) {  // no call returns before three run at once
    for (++waiting; waiting < 3;) std::this_thread::yield();
    const std::lock_guard lock(mutex);
    seen.insert(std::this_thread::get_id());
  });
  EXPECT_EQ(seen.size(), 3u);
}

TEST(ParallelFor, RethrowsTheFirstErrorAndHandsOutNoMore) {
  std::atomic<int> after{0};
  const auto work = [&](std::uint64_t i) {
    if (i == 3) throw Error(Code::corrupt, "three");
    if (i > 3) ++after;
  };
  EXPECT_THROW(parallel_for(1'000'000, 1, work), Error);
  EXPECT_EQ(after, 0);
  EXPECT_THROW(parallel_for(1'000'000, 4, work), Error);
}

TEST(ParallelFor, ItsThreadsTakeNoSignals) {
  const std::thread::id caller = std::this_thread::get_id();
  std::atomic<int> helpers{0};
  std::atomic<int> open{0};
  parallel_for(64, 4, [&](std::uint64_t) {
    sigset_t blocked;
    ::pthread_sigmask(SIG_BLOCK, nullptr, &blocked);
    if (std::this_thread::get_id() != caller) ++helpers;
    if (std::this_thread::get_id() != caller && ::sigismember(&blocked, SIGTERM) == 0) ++open;
  });
  EXPECT_EQ(open, 0) << "of " << helpers;
  sigset_t after;
  ::pthread_sigmask(SIG_BLOCK, nullptr, &after);
  EXPECT_EQ(::sigismember(&after, SIGTERM), 0) << "the caller's are as they were";
}

}  // namespace
}  // namespace torchkeep
