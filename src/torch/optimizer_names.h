// SPDX-License-Identifier: BSD-3-Clause
// The names of an optimizer's parameters in the modules they belong to.
#pragma once

#include <map>
#include <string>
#include <string_view>
#include <vector>

#include <torchkeep/torch/optimizer.h>

namespace torchkeep {

/// In an optimizer's state dict: the parameters' names, a list for each group. Beside the groups and not in them: there
/// PyTorch's load_state_dict() would take them over, and add_param_group() would then want names too.
constexpr std::string_view kParamNames = "param_names";

/// Per group, per parameter: its dotted name, as Python's named_parameters() gives it (of a parameter registered under
/// several names the first). Throws Error (invalid_argument) naming every parameter that is in none of the modules.
std::vector<std::vector<std::string>> parameter_names(const torch::optim::Optimizer& optimizer,
                                                      const NamedModules& modules);

/// The parameters of modules by their names.
struct KnownNames {
  std::vector<std::string> in_order;           ///< of every parameter the first, in the modules' order
  std::map<std::string, std::string> aliases;  ///< every name of a parameter: the first one
};
KnownNames known_names(const NamedModules& modules);

/// "parameter 2 of group 0".
std::string parameter_place(std::size_t group, std::size_t index);

}  // namespace torchkeep
