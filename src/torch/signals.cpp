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

std::mutex mutex;  // of what follows, outside the handler
int users = 0;
struct Installed {
  bool is_ours = false;
  struct sigaction earlier {};
};
std::array<Installed, kSignals.size()> installed;

/// The thread that is calling an earlier handler. That one may call this one again, when it was installed over this one
/// in an earlier run: no circle.
std::array<std::atomic<pthread_t>, kSignals.size()> calling{};

std::size_t index_of(int signal) noexcept {
  std::size_t i = 0;
  while (kSignals[i] != signal) ++i;
  return i;
}

/// Lets the signal have its default effect once this handler has returned.
void give_up(int signal) noexcept {
  ::signal(signal, SIG_DFL);
  ::raise(signal);
}

/// True when there was an earlier handler.
bool call_earlier(int signal, siginfo_t* info, void* context) noexcept {
  const struct sigaction& earlier = installed[index_of(signal)].earlier;
  if ((earlier.sa_flags & SA_SIGINFO) != 0) {
    earlier.sa_sigaction(signal, info, context);
    return true;
  }
  if (earlier.sa_handler == SIG_DFL || earlier.sa_handler == SIG_IGN) return false;
  earlier.sa_handler(signal);
  return true;
}

void handle(int signal, siginfo_t* info, void* context) {
  std::atomic<pthread_t>& caller = calling[index_of(signal)];
  if (caller.load() == ::pthread_self()) return;
  const int saved_errno = errno;
  // Not so in a forked child, which has no run, and when a handler that outlived the run calls this one.
  const bool has_run = ::getpid() == owner.load();
  bool give_up_now = false;
  if (has_run) {
    last_signal.store(signal);
    arrivals.fetch_add(1);
    give_up_now = signal == SIGINT && interrupts.fetch_add(1) > 0;
  }
  caller.store(::pthread_self());
  const bool handled = call_earlier(signal, info, context);
  caller.store({});
  if (give_up_now || (!has_run && !handled)) give_up(signal);
  errno = saved_errno;
}

void install() noexcept {
  owner.store(::getpid());
  interrupts.store(0);
  for (std::size_t i = 0; i < kSignals.size(); ++i) {
    struct sigaction& earlier = installed[i].earlier;
    if (::sigaction(kSignals[i], nullptr, &earlier) != 0) continue;
    if ((earlier.sa_flags & SA_SIGINFO) == 0 && earlier.sa_handler == SIG_IGN) continue;
    struct sigaction ours {};
    ours.sa_sigaction = handle;
    ours.sa_flags = SA_SIGINFO | SA_RESTART;
    sigemptyset(&ours.sa_mask);
    installed[i].is_ours = ::sigaction(kSignals[i], &ours, nullptr) == 0;
  }
}

void uninstall() noexcept {
  owner.store(0);
  for (std::size_t i = 0; i < kSignals.size(); ++i) {
    if (!installed[i].is_ours) continue;
    installed[i].is_ours = false;
    struct sigaction now {};
    const bool still_ours =
        ::sigaction(kSignals[i], nullptr, &now) == 0 && (now.sa_flags & SA_SIGINFO) != 0 && now.sa_sigaction == handle;
    if (still_ours) ::sigaction(kSignals[i], &installed[i].earlier, nullptr);
  }
}

}  // namespace

StopSignals::StopSignals() {
  const std::lock_guard guard(mutex);
  if (users++ == 0) install();
  seen_ = arrivals.load();
}

StopSignals::~StopSignals() {
  const std::lock_guard guard(mutex);
  if (--users == 0) uninstall();
}

int StopSignals::received() const noexcept {
  return arrivals.load() == seen_ ? 0 : last_signal.load();
}

}  // namespace torchkeep
