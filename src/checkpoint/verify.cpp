// SPDX-License-Identifier: BSD-3-Clause
// verify: a file or a folder, checked to the last byte without being loaded.
#include <torchkeep/checkpoint/folder.h>
#include <torchkeep/files/stores.h>
#include <torchkeep/format/check.h>

#include "open_path.h"
#include "threads.h"

namespace torchkeep {
namespace {

void throw_first(const FileCheck& check) {
  if (check.error) throw *check.error;
}

}  // namespace

void verify(const std::string& path, const LoadOptions& options) {
  CheckOptions checking;
  checking.limits = options.limits;
  checking.unknown_classes = options.unknown_classes;
  checking.threads = reading_threads(options.threads);
  const auto folder = find_dcp_folder(path, options.fs != nullptr ? *options.fs : any_store());
  if (folder) return throw_first(check_dcp(*folder, checking));
  OpenedPath opened = open_bytes(path, options.fs);
  checking.open_sibling = std::move(opened.open_sibling);
  throw_first(check_file(std::move(opened.file), checking));
}

}  // namespace torchkeep
