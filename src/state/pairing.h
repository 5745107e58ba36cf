// SPDX-License-Identifier: BSD-3-Clause
// Whether what is shared on one side is shared in the same way on the other. Private to the state layer.
#pragma once

#include <unordered_map>

namespace torchkeep::detail {

/// A one-to-one relation between the things of two sides, built as they are met.
template <class K>
class Pairing {
 public:
  enum class Met { never, together, apart };
  Met meet(K a, K b) {
    const auto [left, new_left] = left_.emplace(a, b);
    const auto [right, new_right] = right_.emplace(b, a);
    if (left->second != b || right->second != a) return Met::apart;
    return new_left && new_right ? Met::never : Met::together;
  }

 private:
  std::unordered_map<K, K> left_;
  std::unordered_map<K, K> right_;
};

}  // namespace torchkeep::detail
