// SPDX-License-Identifier: BSD-3-Clause
// verify: a file, checked to the last byte without being loaded.
#include <torchkeep/format/check.h>

#include "open_path.h"
#include "threads.h"

namespace torchkeep {

void verify(const std::string& path, const LoadOptions& options) {
  const OpenedPath opened = open_bytes(path, options.fs);
  const FileCheck check = check_file(opened.file, {.limits = options.limits,
                                                   .unknown_classes = options.unknown_classes,
                                                   .threads = reading_threads(options.threads),
                                                   .open_sibling = opened.open_sibling});
  if (check.error) throw *check.error;
}

}  // namespace torchkeep
