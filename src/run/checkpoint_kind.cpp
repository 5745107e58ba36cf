// SPDX-License-Identifier: BSD-3-Clause
// How a checkpoint is read that torchkeep::load() can read.
#include <torchkeep/checkpoint/checkpoint.h>
#include <torchkeep/checkpoint/folder.h>
#include <torchkeep/format/check.h>
#include <torchkeep/format/dcp.h>
#include <torchkeep/run/checkpoint_store.h>

namespace torchkeep {

Value CheckpointKind::open(Fs& fs, const std::string& path) const {
  return OpenedCheckpoint(path, {.fs = &fs}).value().from_file(path);
}

Value CheckpointKind::structure(Fs& fs, const std::string& path) const {
  const auto folder = find_dcp_folder(path, fs);
  return (folder ? open_dcp(*folder).value : read_pt(fs.open_read(path))).from_file(path);
}

Value CheckpointKind::load(Fs& fs, const std::string& path) const {
  return torchkeep::load(path, {.fs = &fs});
}

void CheckpointKind::verify(Fs& fs, const std::string& path) const {
  torchkeep::verify(path, {.fs = &fs});
}

bool CheckpointKind::is_whole(Fs& fs, const std::string& path) const {
  const CheckOptions options{.unknown_classes = UnknownClasses::inspect};
  const auto folder = find_dcp_folder(path, fs);
  if (!folder) return passes_checks(fs.open_read(path), options);
  try {
    return check_dcp(*folder, options).good();
  } catch (const Error& error) {
    if (error.code() == Code::io) throw;
    return true;  // check_dcp() throws `unsupported` and `refused` where nothing is damaged
  }
}

}  // namespace torchkeep
