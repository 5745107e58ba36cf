// SPDX-License-Identifier: BSD-3-Clause
// What a zip is, by the names of its records.
#pragma once

#include <string>
#include <vector>

#include <torchkeep/format/open_file.h>

#include "zip/zip.h"

namespace torchkeep::pt {

/// torch_zip or torch_script. Throws Error (unsupported) that says what other kind of zip it is, or (corrupt).
FileFormat classify(const zip::Reader& zip);

/// The names of the records that torch.save does not write: other tools add notes to a zip, and PyTorch reads it.
/// Throws Error (corrupt) where one of them may be a record that a reader looks for, under a changed name, and for two
/// names that differ by case alone, which PyTorch's reader takes for one.
std::vector<std::string> check_names(const zip::Reader& zip, FileFormat format);

}  // namespace torchkeep::pt
