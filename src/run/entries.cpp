// SPDX-License-Identifier: BSD-3-Clause
// A look at each name.
#include "entries.h"

#include <cerrno>
#include <fmt/format.h>

#include <torchkeep/files/publish.h>
#include <torchkeep/run/names.h>

#include "places.h"

namespace torchkeep {
namespace {

bool is_name_of_a_run(std::string_view name) {
  return name == names::kLock || name == names::kOtherLock || name == names::kMetrics || name == names::kSaves ||
         names::parse_pin(name) || names::parse_finished(name) || names::parse_broken(name) || is_temporary_name(name);
}

}  // namespace

bool is_file(Fs& fs, const std::string& path) {
  const auto there = fs.entry(path);
  return there && there->kind == FileKind::regular;
}

bool may_be_checkpoint(Fs& fs, const std::string& path) {
  try {
    const auto there = fs.status(path);
    return there && there->kind == FileKind::regular;
  } catch (const Error& error) {
    return error.system_error() != ELOOP;  // links in a circle lead nowhere
  }
}

std::vector<std::string> odd_entries(Fs& fs, const std::string& directory) {
  std::vector<std::string> odd;
  if (!fs.status(directory)) return odd;
  for (const std::string& name : fs.list(directory)) {
    const std::string path = in_directory(directory, name);
    const bool is_checkpoint = names::parse_checkpoint(name) || names::parse_doomed(name);
    const bool is_odd = is_checkpoint ? !may_be_checkpoint(fs, path) : is_name_of_a_run(name) && !is_file(fs, path);
    const auto there = is_odd ? fs.entry(path) : std::nullopt;
    if (!there || there->kind == FileKind::regular) continue;  // gone meanwhile
    odd.push_back(fmt::format("{} ({})", name, to_string(there->kind)));
  }
  return odd;
}

}  // namespace torchkeep
