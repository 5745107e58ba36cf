// SPDX-License-Identifier: BSD-3-Clause
// Flattened names back to nested dicts and lists.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include <torchkeep/state/value.h>

#include "metadata.h"

namespace torchkeep::dcp {

/// Builds what torch.distributed.checkpoint's unflatten_state_dict() would: a str is a key of a dict, an int an index
/// of a list, whose gaps are None.
class Nest {
 public:
  /// `most_gaps`: how many Nones may fill gaps of lists in all.
  explicit Nest(std::uint64_t most_gaps) : gaps_left_(most_gaps) {}

  /// Puts a value at its path. Throws Error (corrupt) when the paths contradict each other, (refused) for a path that
  /// is very deep or leaves many gaps.
  void set(const Path& path, Value value);
  Value take();

 private:
  struct Node {
    enum class Kind : std::uint8_t { gap, leaf, dict, list };
    Kind kind = Kind::gap;
    Value leaf;
    std::vector<std::unique_ptr<Node>> children;
    std::vector<std::string> keys;  // of a dict's children
    std::unordered_map<std::string, std::size_t> index;
  };

  Node& child(Node& node, const PathStep& step);
  static Value to_value(Node& node);

  Node root_;
  std::uint64_t gaps_left_;
};

}  // namespace torchkeep::dcp
