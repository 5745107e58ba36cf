// SPDX-License-Identifier: BSD-3-Clause
// Threads that draw the next index from one counter.
#include <algorithm>
#include <atomic>
#include <exception>
#include <mutex>
#if defined(__linux__)
#include <sched.h>
#endif
#include <thread>
#include <vector>

#include <torchkeep/base/parallel.h>

namespace torchkeep {
namespace {

class Team {
 public:
  Team(std::uint64_t count, const std::function<void(std::uint64_t)>& work) : count_(count), work_(work) {}

  void draw() noexcept {
    try {
      while (!failed_.load(std::memory_order_relaxed)) {
        const std::uint64_t index = next_.fetch_add(1, std::memory_order_relaxed);
        if (index >= count_) return;
        work_(index);
      }
    } catch (...) {
      const std::lock_guard lock(mutex_);
      if (!error_) error_ = std::current_exception();
      failed_ = true;
    }
  }

  void rethrow() const {
    if (error_) std::rethrow_exception(error_);
  }

 private:
  const std::uint64_t count_;
  const std::function<void(std::uint64_t)>& work_;
  std::atomic<std::uint64_t> next_{0};
  std::atomic<bool> failed_{false};
  std::mutex mutex_;
  std::exception_ptr error_;
};

}  // namespace

SignalsBlocked::SignalsBlocked() noexcept {
  sigset_t all;
  ::sigfillset(&all);
  ::pthread_sigmask(SIG_BLOCK, &all, &before_);
}
SignalsBlocked::~SignalsBlocked() {
  ::pthread_sigmask(SIG_SETMASK, &before_, nullptr);
}

unsigned usable_cores() noexcept {
#if defined(__linux__)
  // taskset, batch systems and containers give a process some of the machine's cores; more threads than that would only
  // get in each other's way.
  cpu_set_t cores;
  if (::sched_getaffinity(0, sizeof(cores), &cores) == 0) return std::max(1, CPU_COUNT(&cores));
#endif
  return std::max(1u, std::thread::hardware_concurrency());
}

void parallel_for(std::uint64_t count, unsigned threads, const std::function<void(std::uint64_t)>& work) {
  if (threads == 0) threads = usable_cores();
  const auto helpers =
      static_cast<std::size_t>(std::min<std::uint64_t>(threads, std::max<std::uint64_t>(count, 1)) - 1);
  Team team(count, work);
  std::vector<std::thread> crew;
  if (helpers > 0) try {
      const SignalsBlocked blocked;
      crew.reserve(helpers);
      while (crew.size() < helpers) crew.emplace_back([&team] { team.draw(); });
    } catch (const std::exception&) {  // no more threads or memory for one: those that started, and this one, do it all
    }
  team.draw();
  for (std::thread& thread : crew) thread.join();
  team.rethrow();
}

}  // namespace torchkeep
