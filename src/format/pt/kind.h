// SPDX-License-Identifier: BSD-3-Clause
// What a zip is, by the names of its records.
#pragma once

#include <torchkeep/format/open_file.h>

#include "zip/zip.h"

namespace torchkeep::pt {

/// torch_zip or torch_script. Throws Error (unsupported) that says what other kind of zip it is, or (corrupt).
FileFormat classify(const zip::Reader& zip);

/// Throws Error (corrupt) unless a zip of torch.save holds records by the names that torch.save gives them, and no two
/// that differ by case alone, which PyTorch's reader takes for one: a name that nobody knows may be one that a reader
/// looks for, and whose absence has a meaning.
void check_names(const zip::Reader& zip);

}  // namespace torchkeep::pt
