// SPDX-License-Identifier: BSD-3-Clause
// What a zip is, by the names of its records.
#pragma once

#include <torchkeep/format/open_file.h>

#include "zip/zip.h"

namespace torchkeep::pt {

/// torch_zip or torch_script. Throws Error (unsupported) that says what other kind of zip it is, or (corrupt).
FileFormat classify(const zip::Reader& zip);

}  // namespace torchkeep::pt
