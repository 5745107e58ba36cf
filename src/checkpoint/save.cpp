// SPDX-License-Identifier: BSD-3-Clause
// save: a Value to a published file.
#include <torchkeep/checkpoint/checkpoint.h>
#include <torchkeep/checkpoint/export.h>
#include <torchkeep/state/compact.h>

namespace torchkeep {

void save(const Value& value, const std::string& path, const SaveOptions& options) {
  Plan plan;
  try {
    plan = plan_pt(options.compact_views ? compact(value) : value);
  } catch (const Error& error) {
    throw error.at({.file = path, .record = {}, .offset = {}, .key = {}});
  }
  save_plan(std::move(plan), path, options);
}

}  // namespace torchkeep
