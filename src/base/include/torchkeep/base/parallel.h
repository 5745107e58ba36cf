// SPDX-License-Identifier: BSD-3-Clause
// Sharing independent pieces of work among threads.
#pragma once

#include <csignal>
#include <cstdint>
#include <functional>

namespace torchkeep {

/// Keeps signals away from threads that are started while it lives: handlers run on the threads of the program.
class SignalsBlocked final {
 public:
  SignalsBlocked() noexcept;
  SignalsBlocked(const SignalsBlocked&) = delete;
  SignalsBlocked& operator=(const SignalsBlocked&) = delete;
  ~SignalsBlocked();

 private:
  sigset_t before_;
};

/// Processor cores that this process may use; 1 at least.
unsigned usable_cores() noexcept;

/// Calls work(i) once for every i in [0, count), from at most `threads` threads of which the caller's is one
/// (0: one per usable core). Lower indices are handed out first. Returns when every call has returned. After an
/// exception no further index is handed out, and the first exception is rethrown here. The threads take no signals.
/// Where the system refuses threads, the work is done by fewer.
void parallel_for(std::uint64_t count, unsigned threads, const std::function<void(std::uint64_t)>& work);

}  // namespace torchkeep
