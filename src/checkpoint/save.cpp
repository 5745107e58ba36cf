// SPDX-License-Identifier: BSD-3-Clause
// save: a Value to a published file.
#include <torchkeep/checkpoint/checkpoint.h>
#include <torchkeep/files/publish.h>

#include "write_plan.h"

namespace torchkeep {

void save(const Value& value, const std::string& path, const SaveOptions& options) {
  Plan plan;
  try {
    plan = plan_pt(value);
  } catch (const Error& error) {
    throw error.at({.file = path, .record = {}, .offset = {}, .key = {}});
  }
  Fs& fs = options.fs != nullptr ? *options.fs : posix_fs();
  const auto fill = [&](File& file) {
    write_plan(plan, file);
    if (!options.read_back) return;
    if (options.durable) file.sync();
    verify(file.path(), {.fs = &fs});
  };
  publish(fs, path, fill, {.durable = options.durable, .size = plan.file_size});
}

}  // namespace torchkeep
