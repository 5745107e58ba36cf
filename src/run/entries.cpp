// SPDX-License-Identifier: BSD-3-Clause
// A look at each name.
#include "entries.h"

#include <algorithm>
#include <fmt/format.h>

#include <torchkeep/files/publish.h>

#include "places.h"

namespace torchkeep {
namespace {

/// A name of a run that the store of its checkpoints does not know.
bool is_other_name(std::string_view name) {
  return name == names::kLock || name == names::kOtherLock ||
         std::find(kLogs.begin(), kLogs.end(), name) != kLogs.end() || names::parse_finished(name) ||
         is_temporary_name(name);
}

}  // namespace

bool is_file(Fs& fs, const std::string& path) {
  const auto there = fs.entry(path);
  return there && there->kind == FileKind::regular;
}

std::vector<std::string> odd_entries(const CheckpointStore& store) {
  Fs& fs = store.fs();
  std::vector<std::string> odd;
  if (!fs.status(store.directory())) return odd;
  for (const std::string& name : fs.list(store.directory())) {
    const std::string path = in_directory(store.directory(), name);
    const bool is_odd = store.is_odd(name) || (is_other_name(name) && !is_file(fs, path));
    const auto there = is_odd ? fs.entry(path) : std::nullopt;
    if (there) odd.push_back(fmt::format("{} ({})", name, to_string(there->kind)));  // else gone meanwhile
  }
  return odd;
}

}  // namespace torchkeep
