// SPDX-License-Identifier: BSD-3-Clause
// The dtypes of safetensors and PyTorch's names for them.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

#include <torchkeep/state/dtype.h>

namespace torchkeep::safetensors {

/// A dtype of the format.
struct FileType {
  std::string_view name;       ///< "BF16"
  unsigned bits;               ///< per element
  std::optional<DType> dtype;  ///< what PyTorch calls it; nothing for the 6-bit floats
  unsigned rank;               ///< writers sort tensors by it, highest first
};

/// The type called `name`, or nullptr.
const FileType* find_type(std::string_view name) noexcept;
/// The type that holds `dtype`, or nullptr.
const FileType* find_type(DType dtype) noexcept;

}  // namespace torchkeep::safetensors
