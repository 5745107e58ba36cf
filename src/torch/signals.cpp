// SPDX-License-Identifier: BSD-3-Clause
// The signal handler and what it may touch: lock-free atomics, and dispositions written before it was installed.
#include "signals.h"

#include <array>
#include <atomic>
#include <cerrno>
#include <csignal>
#include <mutex>
#include <pthread.h>
#include <unistd.h>

namespace torchkeep {
namespace {

constexpr std::array<int, 3> kSignals = {SIGTERM, SIGINT, SIGUSR1};

std::atomic<unsigned> arrivals{0};
std::atomic<int> last_signal{0};
std::atomic<unsigned> interrupts{0};
std::atomic<int> owner{0};
static_assert(std::atomic<unsigned>::is_always_lock_free && std::atomic<int>::is_always_lock_free &&
              std::atomic<pthread_t>::is_always_lock_free);

std::mutex mutex;  // of installing, outside the handler
int users = 0;

/// What was there before ours, oldest first: more than one when a handler was installed over ours, and ours over that
/// one, by a later run. A handler only reads; what is added becomes visible with `count`.
constexpr std::size_t kDepth = 16;
struct Chain {
  std::array<struct sigaction, kDepth> earlier{};
  std::atomic<std::size_t> count{0};
  /// How many of ours are being called one from within the other, on which thread: in one chain each is a later one.
  std::atomic<pthread_t> thread{};
  std::atomic<std::size_t> depth{0};
};
std::array<Chain, kSignals.size()> chains;

std::size_t index_of(int signal) noexcept {
  std::size_t i = 0;
  while (kSignals[i] != signal) ++i;
  return i;
}

bool is_ours(const struct sigaction& action) noexcept;

/// True while ours is what the system calls, and not a later handler that calls ours.
bool is_installed(int signal) noexcept {
  struct sigaction now {};
  return ::sigaction(signal, nullptr, &now) == 0 && is_ours(now);
}

/// Lets the signal have its default effect once this handler has returned.
void give_up(int signal) noexcept {
  ::signal(signal, SIG_DFL);
  ::raise(signal);
}

/// True when it is a handler.
bool call(const struct sigaction& earlier, int signal, siginfo_t* info, void* context) noexcept {
  if ((earlier.sa_flags & SA_SIGINFO) != 0) {
    earlier.sa_sigaction(signal, info, context);
    return true;
  }
  if (earlier.sa_handler == SIG_DFL || earlier.sa_handler == SIG_IGN) return false;
  earlier.sa_handler(signal);
  return true;
}

/// Calls the handler that was there before this one of ours: the outermost is the newest.
bool call_earlier(int signal, siginfo_t* info, void* context, bool& outermost) noexcept {
  Chain& chain = chains[index_of(signal)];
  outermost = chain.thread.load() != ::pthread_self();
  if (outermost) {
    chain.thread.store(::pthread_self());
    chain.depth.store(0);
  }
  const std::size_t depth = chain.depth.fetch_add(1);
  const std::size_t count = chain.count.load();
  const bool handled = depth < count && call(chain.earlier[count - 1 - depth], signal, info, context);
  chain.depth.fetch_sub(1);
  if (outermost) chain.thread.store({});
  return handled;
}

void handle(int signal, siginfo_t* info, void* context) {
  const int saved_errno = errno;
  // Not so in a forked child, which has no run, and when a handler that outlived the run calls this one.
  const bool has_run = ::getpid() == owner.load();
  const bool is_inner = chains[index_of(signal)].thread.load() == ::pthread_self();
  bool give_up_now = false;
  if (has_run && !is_inner) {
    last_signal.store(signal);
    arrivals.fetch_add(1);
    give_up_now = signal == SIGINT && interrupts.fetch_add(1) > 0;
  }
  bool outermost = false;
  const bool handled = call_earlier(signal, info, context, outermost);
  if (give_up_now || (outermost && !has_run && !handled)) give_up(signal);
  errno = saved_errno;
}

bool is_ours(const struct sigaction& action) noexcept {
  return (action.sa_flags & SA_SIGINFO) != 0 && action.sa_sigaction == handle;
}

void install() noexcept {
  owner.store(::getpid());
  interrupts.store(0);
  for (std::size_t i = 0; i < kSignals.size(); ++i) {
    Chain& chain = chains[i];
    struct sigaction earlier {};
    if (::sigaction(kSignals[i], nullptr, &earlier) != 0 || is_ours(earlier) || chain.count.load() == kDepth) continue;
    if ((earlier.sa_flags & SA_SIGINFO) == 0 && earlier.sa_handler == SIG_IGN) continue;
    chain.earlier[chain.count.load()] = earlier;
    chain.count.fetch_add(1);
    struct sigaction ours {};
    ours.sa_sigaction = handle;
    ours.sa_flags = SA_SIGINFO | SA_RESTART;
    sigemptyset(&ours.sa_mask);
    if (::sigaction(kSignals[i], &ours, nullptr) != 0) chain.count.fetch_sub(1);
  }
}

void uninstall() noexcept {
  owner.store(0);
  for (std::size_t i = 0; i < kSignals.size(); ++i) {
    Chain& chain = chains[i];
    while (chain.count.load() > 0 && is_installed(kSignals[i])) {
      ::sigaction(kSignals[i], &chain.earlier[chain.count.load() - 1], nullptr);
      chain.count.fetch_sub(1);
    }
  }
}

}  // namespace

StopSignals::StopSignals() : process_(::getpid()) {
  const std::lock_guard guard(mutex);
  if (owner.load() != process_) users = 0;  // those of a parent do not count in its child
  if (users++ == 0) install();
  seen_ = arrivals.load();
}

StopSignals::~StopSignals() {
  if (::getpid() != process_) return;
  const std::lock_guard guard(mutex);
  if (--users == 0) uninstall();
}

int StopSignals::received() const noexcept {
  return arrivals.load() == seen_ ? 0 : last_signal.load();
}

}  // namespace torchkeep
