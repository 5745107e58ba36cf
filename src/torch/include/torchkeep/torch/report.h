// SPDX-License-Identifier: BSD-3-Clause
// What load_state_dict could not carry over.
#pragma once

#include <string>
#include <vector>

namespace torchkeep {

/// Something that is on both sides but does not fit.
struct Mismatch {
  std::string name;    ///< parameter, buffer or option
  std::string reason;  ///< "shape (5, 4) in the file, (3, 4) here"
};

/// The differences between a file and the object it was loaded into; empty when everything fitted.
struct LoadReport {
  std::vector<std::string> missing;     ///< here, not in the file: left as it was (optimizer: starts without state)
  std::vector<std::string> unexpected;  ///< in the file, not here: not loaded
  std::vector<Mismatch> mismatched;     ///< on both sides, but of another shape or kind: not loaded
  /// Of an optimizer: parameters were matched by their order, for want of names on one side (and not on request).
  bool by_order = false;

  /// True when every entry was loaded.
  bool complete() const noexcept { return missing.empty() && unexpected.empty() && mismatched.empty(); }
  /// One line naming all of them; empty when complete.
  std::string to_string() const;
};

}  // namespace torchkeep
