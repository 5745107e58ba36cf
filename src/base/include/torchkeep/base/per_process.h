// SPDX-License-Identifier: BSD-3-Clause
// What belongs to one process, and is not taken along by a fork.
#pragma once

#include <atomic>
#include <memory>
#include <sys/types.h>
#include <unistd.h>

namespace torchkeep {

/// The T of this process, made at its first use. A forked child makes its own and never touches its parent's, whose
/// mutex another thread may have held at the fork. Never destroyed: static objects may use it late.
template <class T>
T& per_process() {
  struct Made {
    const pid_t process = ::getpid();
    Made* inherited = nullptr;  // the forking process's, kept reachable for leak checkers
    T value{};
  };
  static constinit std::atomic<Made*> current{nullptr};
  Made* found = current.load();
  if (found != nullptr && found->process == ::getpid()) return found->value;
  auto fresh = std::make_unique<Made>();
  fresh->inherited = found;
  if (current.compare_exchange_strong(found, fresh.get())) return fresh.release()->value;
  return found->value;  // another thread was faster
}

}  // namespace torchkeep
