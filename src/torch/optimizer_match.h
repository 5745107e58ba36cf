// SPDX-License-Identifier: BSD-3-Clause
// Which entry of the file belongs to which parameter of the optimizer.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

#include <torchkeep/torch/optimizer.h>
#include <torchkeep/torch/report.h>

namespace torchkeep {

/// A group in the file. `names` is empty when the file has none.
struct FileGroup {
  Value value;
  std::vector<Value> ids;
  std::vector<std::string> names;
};

/// A parameter of the optimizer.
struct Slot {
  std::size_t group;
  at::Tensor param;
  std::string label;        ///< its name, or its place where names are unknown
  std::optional<Value> id;  ///< of its state in the file
};

/// Everything about the load before states are read.
struct Matching {
  std::vector<FileGroup> file;
  std::vector<Slot> slots;
  std::vector<std::optional<std::size_t>> groups;  ///< per group of the optimizer: its group in the file
  bool in_file_order = true;  ///< every group has exactly the file's parameters, in the file's order
  LoadReport report;
  std::vector<Mismatch> fatal;  ///< what no partial load can do without
  std::string hint;             ///< what the user may want to set
};

/// Reads the groups and matches. Throws Error (mismatch) when `value` is no optimizer's state dict.
Matching match_parameters(const torch::optim::Optimizer& optimizer, const Value& value, const NamedModules* modules,
                          const OptimizerLoadOptions& options);

}  // namespace torchkeep
