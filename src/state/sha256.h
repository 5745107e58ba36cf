// SPDX-License-Identifier: BSD-3-Clause
// SHA-256 piece by piece, by OpenSSL's libcrypto. Private to the state layer.
#pragma once

#include <memory>
#include <string_view>

#include <torchkeep/state/hash.h>

namespace torchkeep {

/// Hashes what is added; finish() gives the digest and starts over.
class Sha256 {
 public:
  Sha256();
  ~Sha256();
  Sha256(const Sha256&) = delete;
  Sha256& operator=(const Sha256&) = delete;

  void add(Bytes bytes);
  /// A number, little-endian.
  template <class T>
  requires std::is_arithmetic_v<T>
  void number(T value) { add(std::as_bytes(std::span(&value, 1))); }
  /// A length and the bytes.
  void text(std::string_view text) {
    number(static_cast<std::uint64_t>(text.size()));
    add(as_bytes(text));
  }
  Digest finish();

 private:
  void start();
  struct Context;
  std::unique_ptr<Context> context_;
};

}  // namespace torchkeep
