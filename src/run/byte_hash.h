// SPDX-License-Identifier: BSD-3-Clause
// What proves that bytes which were written are the bytes that were there: a hash as fast as memory.
#pragma once

#include <cstdint>
#include <memory>

#include <torchkeep/base/bytes.h>

namespace torchkeep {

/// XXH3 with 64 bits and a seed that each process draws at random: other bytes have the same hash with a probability of
/// 2^-64, also where somebody chose them (a CRC-32 can be kept by changing eight bytes). Nothing of it is ever stored.
class ByteHash final {
 public:
  ByteHash();
  ~ByteHash();

  /// Forgets what was added.
  void restart();
  void add(Bytes bytes);
  std::uint64_t result() const;

  /// Of all bytes at once; the same as restart(), add(bytes), result().
  static std::uint64_t of(Bytes bytes);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace torchkeep
