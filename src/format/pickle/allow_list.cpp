// SPDX-License-Identifier: BSD-3-Clause
// Looks globals up in the allow-list.
#include "allow_list.h"

#include <algorithm>
#include <iterator>

namespace torchkeep::pickle {
namespace {

constexpr bool before(const Known& a, const Known& b) {
  return a.module != b.module ? a.module < b.module : a.name < b.name;
}
static_assert(std::is_sorted(std::begin(kAllowed), std::end(kAllowed), before));

std::string_view modern_module(std::string_view module) noexcept {
  if (module == "__builtin__") return "builtins";
  if (module == "copy_reg") return "copyreg";
  return module;
}

}  // namespace

Global look_up(std::string_view module, std::string_view name) noexcept {
  Global global{.module = modern_module(module), .name = name, .role = Role::unknown, .dtype = {}};
  const Known wanted{global.module, name, Role::unknown};
  const auto* row = std::lower_bound(std::begin(kAllowed), std::end(kAllowed), wanted, before);
  if (row != std::end(kAllowed) && !before(wanted, *row)) {
    global.role = row->role;
    return global;
  }
  if (module != "torch" && module != "torch.storage" && module != "torch.cuda") return global;
  if (name == "UntypedStorage") {
    global.role = Role::storage_class;
  } else if (name.ends_with("Storage")) {
    global.dtype = dtype_from_storage_class(name);
    if (global.dtype) global.role = Role::storage_class;
  } else if (module == "torch" && name != "boolean") {
    global.dtype = dtype_from_name(name);
    if (global.dtype) global.role = Role::dtype;
  }
  return global;
}

}  // namespace torchkeep::pickle
