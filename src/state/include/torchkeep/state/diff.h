// SPDX-License-Identifier: BSD-3-Clause
// What differs between two Values, place by place. Equal means equal bits.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <torchkeep/base/progress.h>
#include <torchkeep/state/compare.h>
#include <torchkeep/state/value.h>
#include <torchkeep/state/walk.h>

namespace torchkeep {

/// In what two values at one place differ.
enum class Change : std::uint8_t {
  added,      ///< only the second has it
  removed,    ///< only the first has it
  kind,       ///< a dict and a list, an int and a tensor
  value,      ///< a number, a text, an object's class, the shape of a sparse tensor
  dtype,      ///< of a tensor
  shape,      ///< of a tensor
  elements,   ///< bits of a tensor's elements
  quantizer,  ///< scale, zero point or scheme of a quantized tensor
  flags,      ///< requires_grad, Parameter or not, lazy conjugation and negation
  strides,    ///< strides or storage offset, with the elements in the same row-major order
  location,   ///< the device the storage was on
  sharing,    ///< what this shares memory (or an object) with
  order,      ///< the same keys in another order
};

/// The name of a change, as written above.
std::string_view to_string(Change change) noexcept;

/// One place that differs.
struct Difference {
  std::string path;                         ///< as Place::text
  std::string top;                          ///< the first step of the path: "optimizer_state_dict"; empty at the root
  std::vector<Change> changes;              ///< one at least; a tensor may differ in several ways
  Value before;                             ///< None when added
  Value after;                              ///< None when removed
  std::optional<TensorDifference> numbers;  ///< two tensors of one shape whose elements or dtypes differ

  bool has(Change change) const noexcept;
};

/// How much was compared under one key of the root. Leaves are all values that are neither tensors nor containers.
struct DiffPart {
  std::string key;  ///< empty for the root itself
  std::uint64_t tensors = 0;
  std::uint64_t leaves = 0;
  std::uint64_t differences = 0;        ///< places
  std::uint64_t tensors_differing = 0;  ///< of the tensors on both sides
};

struct Diff {
  std::vector<Difference> differences;  ///< in the order of the first value; at most DiffOptions::max_differences
  std::uint64_t found = 0;              ///< all places that differ, also those beyond the limit
  std::vector<DiffPart> parts;          ///< the root's keys, in order
  std::uint64_t bytes = 0;              ///< of tensors, compared on each side

  bool equal() const noexcept { return found == 0; }
};

struct DiffOptions {
  /// Compare what training reads and leave out the rest: flags, strides, location, sharing, the order of keys, which
  /// kind of mapping or sequence holds the parts, and Python attributes.
  bool content_only = false;
  /// Skip a place and all below it.
  std::function<bool(const Place&)> skip = nullptr;
  /// Compute distances for tensors of one dtype that differ (a second pass over them).
  bool numbers = true;
  std::uint64_t max_differences = 10'000;
  unsigned threads = 0;  ///< 0: one per core. The result does not depend on it
  /// Called from time to time with bytes done and bytes in all; never from two threads at once.
  Progress on_progress = {};
};

/// Compares two Values, tensors block by block on several threads. Memory: the list of tensors and the differences,
/// however large the tensors are. Throws what reading a storage throws, with the key path.
Diff diff(const Value& a, const Value& b, const DiffOptions& options = {});

}  // namespace torchkeep
