// SPDX-License-Identifier: BSD-3-Clause
// What the adapter says: reports of what did not fit, shapes, and LibTorch's errors as ours.
#include <algorithm>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <c10/util/Exception.h>

#include <torchkeep/torch/report.h>

#include "errors.h"
#include "tensor_io.h"

namespace torchkeep {

std::string LoadReport::to_string() const {
  std::vector<std::string> parts;
  if (!missing.empty()) parts.push_back(fmt::format("missing in the file: {}", fmt::join(missing, ", ")));
  if (!unexpected.empty()) parts.push_back(fmt::format("unexpected in the file: {}", fmt::join(unexpected, ", ")));
  for (const Mismatch& mismatch : mismatched) parts.push_back(fmt::format("{}: {}", mismatch.name, mismatch.reason));
  return fmt::format("{}", fmt::join(parts, "; "));
}

std::string shape_text(c10::IntArrayRef sizes) {
  return fmt::format("({}{})", fmt::join(sizes, ", "), sizes.size() == 1 ? "," : "");
}

std::string without_prefix(const std::string& name, const std::string& prefix) {
  return name.starts_with(prefix) ? name.substr(prefix.size()) : name;
}

std::string prefix_hint(const std::vector<std::string>& names,
                        const std::function<bool(const std::string&)>& is_in_file) {
  for (const std::string prefix : {"module.", "_orig_mod.", "module._orig_mod.", "_orig_mod.module."}) {
    const bool fits =
        std::all_of(names.begin(), names.end(), [&](const std::string& name) { return is_in_file(prefix + name); });
    if (fits && !names.empty()) {
      return fmt::format(" (the names in the file begin with '{0}': load with .strip_prefix = \"{0}\")", prefix);
    }
  }
  return {};
}

Error translate(const c10::Error& error) {
  Code code = Code::invalid_argument;
  if (dynamic_cast<const c10::NotImplementedError*>(&error) != nullptr) code = Code::unsupported;
  if (dynamic_cast<const c10::OutOfMemoryError*>(&error) != nullptr) code = Code::io;
  if (dynamic_cast<const c10::AcceleratorError*>(&error) != nullptr) code = Code::io;
  return Error(code, fmt::format("LibTorch: {}", error.what_without_backtrace()));
}

}  // namespace torchkeep
