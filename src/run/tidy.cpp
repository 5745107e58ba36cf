// SPDX-License-Identifier: BSD-3-Clause
// Removals from outside of a run:
//
//   1 lock     the folder: no writer removes or saves meanwhile
//   2 read     back the newest checkpoint (prune only): what stays must be good
//   3 remove   one by one, oldest first, each as the run itself does it (checkpoint_store.cpp): a pin set now still
//   counts 4 sync     the folder
#include <algorithm>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <torchkeep/checkpoint/checkpoint.h>
#include <torchkeep/run/names.h>
#include <torchkeep/run/tidy.h>

#include "places.h"
#include "retain.h"
#include "run_lock.h"

namespace torchkeep {
namespace {

std::unique_ptr<RunLock> lock_run(Fs& fs, const std::string& directory, const RemovalOptions& options) {
  if (options.dry_run) return nullptr;
  return std::make_unique<RunLock>(fs, directory,
                                   LockRules{.locking = options.locking,
                                             .if_busy = "try again when that run has ended",
                                             .if_unsupported = options.if_unsupported});
}

std::vector<StoredEntry> list_entries(const CheckpointStore& store) {
  std::vector<StoredEntry> entries;
  for (const CheckpointInfo& one : store.list()) entries.push_back({one.step, one.path, store.size(one.path)});
  return entries;
}

bool has(const std::vector<std::int64_t>& steps, std::int64_t step) {
  return std::find(steps.begin(), steps.end(), step) != steps.end();
}

Removal remove_entries(const CheckpointStore& store, const std::vector<StoredEntry>& entries,
                       const RemovalOptions& options) {
  Removal done;
  for (const StoredEntry& one : entries) {
    const bool pinned = store.is_pinned(one.step);
    if (options.pinned && pinned && !options.dry_run) store.unpin(one.step);
    const bool stays = pinned && !options.pinned;
    if (stays || (!options.dry_run && !store.remove(one.step))) {
      done.pinned.push_back(one);
    } else {
      done.removed.push_back(one);
      done.bytes += one.size;
    }
  }
  if (!options.dry_run && !done.removed.empty()) store.sync();
  return done;
}

void refuse_pinned(const CheckpointStore& store, const std::vector<std::int64_t>& steps) {
  std::vector<std::int64_t> pinned;
  for (const std::int64_t step : steps) {
    if (store.is_pinned(step)) pinned.push_back(step);
  }
  if (pinned.empty()) return;
  throw Error(Code::invalid_argument,
              fmt::format("pinned: step {}; unpin it first, or use force", fmt::join(pinned, ", step ")),
              at_file(store.directory()));
}

}  // namespace

Removal prune_run(const std::string& directory, const KeepRules& rules, const RemovalOptions& options, Fs& fs) {
  if (rules.last < 1 || rules.every < 0 || rules.best < 0 || (rules.best > 0 && !rules.by)) {
    throw Error(Code::invalid_argument,
                "expected how many of the newest checkpoints to keep (1 at least), and a metric to keep the best by",
                at_file(directory));
  }
  const auto lock = lock_run(fs, directory, options);
  const RunOverview run = look_at_run(directory, rules, fs);
  if (run.checkpoints.empty()) throw Error(Code::not_found, "no checkpoint in this folder", at_file(directory));
  const CheckpointOverview& newest = run.checkpoints.back();
  if (!newest.problem.empty()) throw Error(Code::corrupt, newest.problem, at_file(newest.path));
  if (!options.dry_run) verify(newest.path, {.unknown_classes = UnknownClasses::opaque, .fs = &fs});
  std::vector<StoredEntry> surplus;
  for (const CheckpointOverview& one : run.checkpoints) {
    // One that cannot be read just now may be the best.
    const bool unknown = rules.best > 0 && !one.problem.empty();
    if (one.kept_by.empty() && !unknown) surplus.push_back({one.step, one.path, one.size});
  }
  return remove_entries(CheckpointStore(fs, directory), surplus, options);
}

Removal remove_checkpoints(const std::string& directory, const std::vector<std::int64_t>& steps,
                           const RemovalOptions& options, Fs& fs) {
  const auto lock = lock_run(fs, directory, options);
  const CheckpointStore store(fs, directory);
  std::vector<StoredEntry> entries = list_entries(store);
  std::vector<std::int64_t> missing;
  for (const std::int64_t step : steps) {
    const auto is_it = [step](const StoredEntry& one) { return one.step == step; };
    if (std::none_of(entries.begin(), entries.end(), is_it)) missing.push_back(step);
  }
  if (!missing.empty()) {
    throw Error(Code::not_found, fmt::format("no checkpoint of step {}", fmt::join(missing, ", of step ")),
                at_file(directory));
  }
  if (!options.newest && !entries.empty() && has(steps, entries.back().step)) {
    throw Error(Code::invalid_argument,
                fmt::format("step {} is the newest checkpoint, from which the run continues; it goes only by force",
                            entries.back().step),
                at_file(directory));
  }
  std::erase_if(entries, [&](const StoredEntry& one) { return !has(steps, one.step); });
  if (!options.pinned) refuse_pinned(store, steps);
  return remove_entries(store, entries, options);
}

Removal remove_broken(const std::string& directory, const RemovalOptions& options, Fs& fs) {
  const auto lock = lock_run(fs, directory, options);
  Removal done;
  const CheckpointStore store(fs, directory);
  for (const StoredEntry& one : look_at_run(directory, {}, fs).broken) {
    if (!options.dry_run) store.remove_quarantined(one.path);
    done.removed.push_back(one);
    done.bytes += one.size;
  }
  if (!options.dry_run && !done.removed.empty()) store.sync();
  return done;
}

}  // namespace torchkeep
