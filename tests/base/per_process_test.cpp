// SPDX-License-Identifier: BSD-3-Clause
// What belongs to one process.
#include <gtest/gtest.h>
#include <mutex>
#include <set>
#include <sys/wait.h>
#include <thread>
#include <vector>

#include <torchkeep/base/per_process.h>

namespace torchkeep {
namespace {

struct Guarded {
  std::mutex mutex;
  int number = 0;
};
struct Other {
  int number = 0;
};

TEST(PerProcess, IsOneForAllThreadsAndOneForEachType) {
  std::vector<std::thread> threads;
  std::mutex mutex;
  std::set<const void*> seen;
  for (int i = 0; i < 8; ++i) {
    threads.emplace_back([&] {
      const void* const mine = &per_process<Guarded>();
      const std::lock_guard lock(mutex);
      seen.insert(mine);
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(seen.size(), 1U);
  EXPECT_NE(static_cast<const void*>(&per_process<Other>()), *seen.begin());
}

#if !defined(__SANITIZE_THREAD__)
TEST(PerProcess, AForkedChildHasItsOwnAlthoughItsMutexWasHeldAtTheFork) {
  per_process<Guarded>().number = 5;
  per_process<Guarded>().mutex.lock();
  const pid_t child = ::fork();
  if (child == 0) {
    Guarded& own = per_process<Guarded>();
    ::_exit(own.mutex.try_lock() && own.number == 0 ? 0 : 1);
  }
  per_process<Guarded>().mutex.unlock();
  int status = -1;
  ::waitpid(child, &status, 0);
  EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0) << status;
  EXPECT_EQ(per_process<Guarded>().number, 5);
}
#endif

}  // namespace
}  // namespace torchkeep
