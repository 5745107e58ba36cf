// SPDX-License-Identifier: BSD-3-Clause
// Tells a file whose bytes changed from one that is whole and only not read.
#include <cerrno>

#include <torchkeep/format/check.h>

#include "zip/records.h"
#include "zip/zip.h"

namespace torchkeep {
namespace {

bool is_damage(const Error& error) noexcept {
  return error.code() == Code::corrupt || error.system_error() == EIO;
}

bool begins_as_zip(const ReadAt& file) {
  std::uint32_t signature = 0;
  if (file.size() < sizeof(signature)) return false;
  file.read_at(0, std::as_writable_bytes(std::span(&signature, 1)));
  return signature == zip::kLocalSignature;
}

/// What can be said by the container alone; nothing when it is a zip whose records are to be checked.
std::optional<bool> container_passes(const std::shared_ptr<const ReadAt>& file, const Limits& limits) {
  const bool begins = begins_as_zip(*file);
  try {
    const zip::Reader zip(file, limits);
    if (!begins) return false;  // a zip whose first bytes are not one's
    for (const zip::Record& record : zip.records()) zip.check_strictly(record);  // its name, which tells what it is
    return std::nullopt;
  } catch (const Error& error) {
    if (error.code() == Code::io && !is_damage(error)) throw;
    if (!begins && error.code() == Code::corrupt) return file->size() > 0;  // no zip: nothing that could fail
    return error.code() == Code::refused;  // by a limit; an end record that speaks of other disks has changed
  }
}

}  // namespace

bool passes_checks(const std::shared_ptr<const ReadAt>& file, const CheckOptions& options) {
  if (const auto passes = container_passes(file, options.limits)) return *passes;
  try {
    return check_file(file, options).good();
  } catch (const Error& error) {
    if (error.code() == Code::io) throw;
    return true;  // check_file() throws `unsupported` and `refused` where nothing is damaged
  }
}

}  // namespace torchkeep
