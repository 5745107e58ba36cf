// SPDX-License-Identifier: BSD-3-Clause
// save: a Value to a published file.
#include <torchkeep/checkpoint/checkpoint.h>
#include <torchkeep/files/publish.h>
#include <torchkeep/state/compact.h>

#include "write_plan.h"

namespace torchkeep {
namespace {

// Below, setting the ring up and the fsync cost more than the bytes.
constexpr std::uint64_t kDirectFrom = std::uint64_t{4} << 20;

WritePath write_path(const SaveOptions& options, std::uint64_t file_size) {
  if (options.write_path) return *options.write_path;
  return options.durable && file_size >= kDirectFrom ? WritePath::direct : WritePath::page_cache;
}

}  // namespace

void save(const Value& value, const std::string& path, const SaveOptions& options) {
  Plan plan;
  try {
    plan = plan_pt(options.compact_views ? compact(value) : value);
  } catch (const Error& error) {
    throw error.at({.file = path, .record = {}, .offset = {}, .key = {}});
  }
  Fs& fs = options.fs != nullptr ? *options.fs : posix_fs();
  const auto fill = [&](File& file) {
    write_plan(plan, file);
    if (options.durable && (options.read_back || options.consent)) file.sync();
    if (options.read_back) verify(file.path(), {.fs = &fs, .threads = options.threads});
    if (options.consent) options.consent();
  };
  publish(fs, path, fill,
          {.durable = options.durable, .size = plan.file_size, .write_path = write_path(options, plan.file_size)});
}

}  // namespace torchkeep
