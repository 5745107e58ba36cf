// SPDX-License-Identifier: BSD-3-Clause
// How the training's thread waits for the writer's: it looks up from time to time, where the front wants that.
#pragma once

#include <chrono>
#include <condition_variable>
#include <functional>
#include <mutex>

namespace torchkeep {

/// Returns when `is_ready()` is true, which `changes` tells of. Meanwhile `look_up`, unless it is empty, is called
/// every so often, without the lock; what it throws ends the waiting.
template <class Ready>
void wait_until(std::condition_variable& changes, std::unique_lock<std::mutex>& lock,
                const std::function<void()>& look_up, Ready is_ready) {
  constexpr std::chrono::milliseconds kInterval{50};
  if (!look_up) return changes.wait(lock, is_ready);
  while (!changes.wait_for(lock, kInterval, is_ready)) {
    lock.unlock();
    look_up();
    lock.lock();
  }
}

}  // namespace torchkeep
