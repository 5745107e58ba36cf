// SPDX-License-Identifier: BSD-3-Clause
// xxHash's own code, compiled into this file.
#define XXH_INLINE_ALL
#include "byte_hash.h"

#include <random>
#include <xxhash.h>

namespace torchkeep {
namespace {

std::uint64_t seed() {
  static const std::uint64_t drawn = [] {
    std::random_device device;
    return std::uint64_t{device()} << 32 | device();
  }();
  return drawn;
}

}  // namespace

struct ByteHash::State {
  XXH3_state_t of_xxh3;
};

ByteHash::ByteHash() : state_(std::make_unique<State>()) {
  restart();
}
ByteHash::~ByteHash() = default;

void ByteHash::restart() {
  XXH3_64bits_reset_withSeed(&state_->of_xxh3, seed());
}

void ByteHash::add(Bytes bytes) {
  XXH3_64bits_update(&state_->of_xxh3, bytes.data(), bytes.size());
}

std::uint64_t ByteHash::result() const {
  return XXH3_64bits_digest(&state_->of_xxh3);
}

std::uint64_t ByteHash::of(Bytes bytes) {
  return XXH3_64bits_withSeed(bytes.data(), bytes.size(), seed());
}

}  // namespace torchkeep
