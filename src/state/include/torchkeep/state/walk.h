// SPDX-License-Identifier: BSD-3-Clause
// Visiting every part of a Value, and naming its place: "optimizer.state.0.exp_avg".
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <torchkeep/state/value.h>

namespace torchkeep {

/// One step from a node to a part of it.
struct Step {
  enum class Kind : std::uint8_t {
    key,    ///< the value under `key` of a mapping (or of the dict items of an object)
    index,  ///< element number `index` of a list, tuple, torch.Size or set (or of the list items of an object)
    field,  ///< a named part: "attributes"; "indices", "plain", "values" of a sparse tensor; "buffer", "sizes",
            ///< "strides", "offsets" of a nested one; "args", "kwargs", "state" of an object
  };
  Kind kind = Kind::index;
  Value key;
  std::uint64_t index = 0;
  std::string_view field;

  /// As it stands in a path: the text of a str or int key ("<tuple>" for other kinds, "<my.Class>" for a class), the
  /// index, the field's name.
  std::string text() const;
  /// The same for people: of more than 1,000 bytes the beginning, and "...".
  std::string shown() const;
};

/// A way from the root, as a chain towards it. Lives as long as the walk that made it stands below it.
struct Place {
  const Place* parent = nullptr;  ///< null at the root
  Step step;                      ///< meaningless at the root
  std::size_t depth = 0;          ///< steps from the root

  /// All steps joined by dots, for people; empty at the root. A file may have 100,000 parts below keys of a megabyte,
  /// so
  /// "..." stands for all but the last 32 steps below 1,000 steps of depth, for the end of a step of more than 1,000
  /// bytes, and for the beginning of a text of more than 4,096.
  std::string text() const;
  /// The same, with every step whole: a name that must be exact.
  std::string name() const;
  /// From the root on; below 1,000 steps of depth the last 32.
  std::vector<const Step*> steps() const;
};

/// The parts of a node in order: elements, or values of a mapping, or fields; attributes, if any, last. Keys are not
/// parts. Valid while the node lives.
class Parts {
 public:
  explicit Parts(const Value& value) noexcept;
  std::size_t size() const noexcept { return size_; }
  const Value& value(std::size_t i) const noexcept;
  Step step(std::size_t i) const;

 private:
  const Value* value_;
  std::size_t content_;  // parts that are not attributes
  std::size_t size_;
};

/// What a walk hands out.
struct Visit {
  const Value& value;
  const Place& place;
  /// This container was visited before, at another place; its parts are not visited again.
  bool repeated = false;
};

/// What to do after a visit.
enum class Next : std::uint8_t { inside, over, stop };

/// Visits `root` and everything in it, parents before their parts, in order. Shared containers are entered once, so the
/// work is bounded by the number of references in the Value. Needs memory for the depth and the shared containers.
void walk(const Value& root, const std::function<Next(const Visit&)>& visit);

/// The part of `root` that `path` names, as Place::text writes it: keys may contain dots, longer keys are tried first,
/// and digits are tried as str key, as int key and as index (from the end, when negative). Empty: the root itself.
/// The result reports its place in errors. Nothing when there is none.
std::optional<Value> find_path(const Value& root, std::string_view path);
/// The steps to what find_path() finds.
std::optional<std::vector<Step>> find_steps(const Value& root, std::string_view path);

}  // namespace torchkeep
