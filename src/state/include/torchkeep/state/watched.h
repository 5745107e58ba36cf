// SPDX-License-Identifier: BSD-3-Clause
// Memory that somebody goes on working with, and how a write to it shows.
#pragma once

#include <cstdint>

#include <torchkeep/state/storage.h>

namespace torchkeep {

/// Live memory whose owner counts the writes to it.
class WatchedStorage : public Storage {
 public:
  /// Two that are equal: between them the memory was neither exchanged nor written to in a way that is counted.
  struct Mark {
    std::uint64_t version = 0;   ///< raised by counted writes, after the bytes have changed
    const void* data = nullptr;  ///< where its owner's bytes are now
    std::uint64_t nbytes = 0;
    bool operator==(const Mark&) const = default;
  };
  /// As it is now. For the thread that writes to the memory.
  virtual Mark mark() const = 0;
  /// What makes many mark() calls in a row cheap as long as it is kept (a lock that each of them would take), or null.
  virtual std::shared_ptr<void> marking() const { return nullptr; }
  /// True: training changes it at every step, so a counter that stands still has missed something.
  virtual bool is_trained() const noexcept { return true; }
};

}  // namespace torchkeep
