// SPDX-License-Identifier: BSD-3-Clause
// A checkpoint is removed in three steps, so that "pinned" is never told about a checkpoint that is gone:
//   1 rename   it to a hidden name
//   2 look     for its pin: if there is one now, rename it back
//   3 remove   it
// pin() makes the pin first and then looks for the checkpoint: either step 2 sees the pin, or the process that pins
// sees that the checkpoint is gone.
#include <algorithm>
#include <fmt/format.h>
#include <set>

#include <torchkeep/checkpoint/checkpoint.h>
#include <torchkeep/checkpoint/folder.h>
#include <torchkeep/files/publish.h>
#include <torchkeep/format/check.h>
#include <torchkeep/format/dcp.h>
#include <torchkeep/run/checkpoint_store.h>
#include <torchkeep/run/names.h>

#include "entries.h"
#include "places.h"

namespace torchkeep {
namespace {

constexpr std::string_view kBeingRemoved = ".doomed";
constexpr std::string_view kQuarantined = ".broken";

std::string name_being_removed(const CheckpointKind& kind, std::int64_t step) {
  return fmt::format(".{}{}", kind.name(step), kBeingRemoved);
}

std::string_view file_name(std::string_view path) {
  return path.substr(path.rfind('/') + 1);
}

}  // namespace

std::span<const CheckpointKind* const> checkpoint_kinds() noexcept {
  static const CheckpointKind* const kinds[] = {&pt_file_kind()};
  return kinds;
}

CheckpointStore::CheckpointStore(Fs& fs, std::string directory, std::span<const CheckpointKind* const> kinds)
    : fs_(fs), directory_(std::move(directory)), kinds_(kinds) {}

// ---- names

std::string CheckpointStore::at(std::string_view name) const {
  return in_directory(directory_, name);
}

std::optional<CheckpointStore::Parsed> CheckpointStore::parse(std::string_view name) const {
  for (const CheckpointKind* const kind : kinds_) {
    if (const auto step = kind->parse(name)) return Parsed{*step, kind};
  }
  return std::nullopt;
}

std::optional<CheckpointStore::Parsed> CheckpointStore::parse_removed(std::string_view name) const {
  if (!name.starts_with('.') || !name.ends_with(kBeingRemoved)) return std::nullopt;
  name.remove_prefix(1);
  name.remove_suffix(kBeingRemoved.size());
  return parse(name);
}

std::optional<CheckpointStore::Parsed> CheckpointStore::parse_quarantined(std::string_view name) const {
  const std::size_t mark = name.rfind(kQuarantined);
  return mark == std::string_view::npos ? std::nullopt : parse(name.substr(0, mark));
}

const CheckpointKind& CheckpointStore::kind_of(const std::string& path) const {
  const std::string_view name = file_name(path);
  for (const auto& parsed : {parse(name), parse_removed(name), parse_quarantined(name), parse_pending(name)}) {
    if (parsed) return *parsed->kind;
  }
  throw Error(Code::invalid_argument, "expected the path of a checkpoint of this run", at_file(path));
}

std::optional<CheckpointStore::Parsed> CheckpointStore::parse_pending(std::string_view name) const {
  for (const CheckpointKind* const kind : kinds_) {
    if (const auto step = kind->parse_pending(name)) return Parsed{*step, kind};
  }
  return std::nullopt;
}

std::optional<std::int64_t> CheckpointStore::step_of_name(std::string_view name) const {
  const auto parsed = parse(name);
  return parsed ? std::optional(parsed->step) : std::nullopt;
}

bool CheckpointStore::may_be(const Parsed& parsed, const std::string& name) const {
  try {
    const auto there = fs_.status(at(name));
    return there && there->kind == parsed.kind->made_of();
  } catch (const Error& error) {
    return error.system_error() != ELOOP;  // links in a circle lead nowhere
  }
}

bool CheckpointStore::is_own(const Parsed& parsed, const std::string& name) const {
  const auto there = fs_.entry(at(name));
  return there && there->kind == parsed.kind->made_of();
}

bool CheckpointStore::is_odd(const std::string& name) const {
  for (const auto& parsed : {parse(name), parse_removed(name)}) {
    if (parsed) return !may_be(*parsed, name);
  }
  for (const auto& parsed : {parse_quarantined(name), parse_pending(name)}) {
    if (parsed) return !is_own(*parsed, name);
  }
  return names::parse_pin(name) && !is_file(fs_, at(name));  // it counts as a pin all the same
}

/// The names in the folder; none where it does not exist.
std::vector<std::string> CheckpointStore::names() const {
  try {
    return fs_.list(directory_);
  } catch (const Error& error) {
    if (error.code() != Code::not_found) throw;
    return {};
  }
}

// ---- reading

std::vector<CheckpointInfo> CheckpointStore::list() const {
  std::set<std::int64_t> pins;
  std::vector<CheckpointInfo> checkpoints;
  for (const std::string& name : names()) {
    if (const auto step = names::parse_pin(name)) pins.insert(*step);
    const auto parsed = parse(name);
    if (parsed && may_be(*parsed, name)) checkpoints.push_back({parsed->step, at(name), false});
  }
  for (CheckpointInfo& checkpoint : checkpoints) checkpoint.pinned = pins.contains(checkpoint.step);
  std::stable_sort(checkpoints.begin(), checkpoints.end(),
                   [](const auto& a, const auto& b) { return a.step < b.step; });
  return checkpoints;
}

std::string CheckpointStore::path_of(std::int64_t step) const {
  return at(kinds_.front()->name(step));
}

std::uint64_t CheckpointStore::size(const std::string& path) const {
  return kind_of(path).size(fs_, path);
}

Value CheckpointStore::open(const std::string& path) const {
  return OpenedCheckpoint(path, {.fs = &fs_}).value().from_file(path);
}

Value CheckpointStore::structure(const std::string& path) const {
  const auto folder = find_dcp_folder(path, fs_);
  return (folder ? open_dcp(*folder).value : read_pt(fs_.open_read(path))).from_file(path);
}

Value CheckpointStore::load(const std::string& path) const {
  return torchkeep::load(path, {.fs = &fs_});
}

void CheckpointStore::verify(const std::string& path) const {
  torchkeep::verify(path, {.fs = &fs_});
}

bool CheckpointStore::is_whole(const std::string& path) const {
  const CheckOptions options{.unknown_classes = UnknownClasses::inspect};
  const auto folder = find_dcp_folder(path, fs_);
  if (!folder) return passes_checks(fs_.open_read(path), options);
  try {
    return check_dcp(*folder, options).good();
  } catch (const Error& error) {
    if (error.code() == Code::io) throw;
    return true;  // check_dcp() throws `unsupported` and `refused` where nothing is damaged
  }
}

// ---- writing

std::unique_ptr<PendingCheckpoint> CheckpointStore::begin(std::int64_t step, const Value& checkpoint,
                                                          const WriteRules& rules) const {
  return kinds_.front()->begin(fs_, path_of(step), checkpoint, rules);
}

bool CheckpointStore::remove(std::int64_t step) const {
  if (is_pinned(step)) return false;
  std::vector<const CheckpointKind*> there;
  for (const std::string& name : names()) {
    if (const auto parsed = parse(name); parsed && parsed->step == step) there.push_back(parsed->kind);
  }
  if (there.empty()) throw Error(Code::not_found, "no such checkpoint to remove", at_file(path_of(step)));
  bool all_gone = true;
  for (const CheckpointKind* const kind : there) all_gone = remove_entry(*kind, step) && all_gone;
  return all_gone;
}

bool CheckpointStore::remove_entry(const CheckpointKind& kind, std::int64_t step) const {
  const std::string path = at(kind.name(step));
  const std::string hidden = at(name_being_removed(kind, step));
  fs_.rename(path, hidden);  // 1
  if (is_pinned(step)) {     // 2
    fs_.rename(hidden, path);
    return false;
  }
  remove_at(kind, hidden);  // 3
  return true;
}

/// Of a link, the link alone.
void CheckpointStore::remove_at(const CheckpointKind& kind, const std::string& path) const {
  fs_.read_link(path) ? fs_.remove(path) : kind.remove(fs_, path);
}

std::string CheckpointStore::quarantine(const std::string& path) const {
  std::string quarantined = path + std::string(kQuarantined);
  for (int number = 2; fs_.entry(quarantined); ++number) {
    quarantined = fmt::format("{}{}-{}", path, kQuarantined, number);
  }
  fs_.rename(path, quarantined);
  return quarantined;
}

void CheckpointStore::remove_quarantined(const std::string& path) const {
  kind_of(path).remove(fs_, path);
}

std::size_t CheckpointStore::clean_up() const {
  std::size_t removed = 0;
  for (const std::string& name : names()) {
    if (const auto hidden = parse_removed(name); hidden && may_be(*hidden, name)) restore(name, *hidden);
    if (const auto pending = parse_pending(name); pending && is_own(*pending, name)) {
      pending->kind->remove(fs_, at(name));
      ++removed;
    }
  }
  return removed;
}

void CheckpointStore::restore(const std::string& name, const Parsed& removed) const {
  const std::string path = at(removed.kind->name(removed.step));
  if (fs_.entry(path))
    remove_at(*removed.kind, at(name));  // that step was reached and saved once more
  else
    fs_.rename(at(name), path);
}

void CheckpointStore::sync() const {
  fs_.sync_directory(directory_);
}

// ---- pins

bool CheckpointStore::is_pinned(std::int64_t step) const {
  return fs_.entry(at(names::pin(step))).has_value();
}

void CheckpointStore::pin(std::int64_t step) const {
  mark(fs_, at(names::pin(step)));
  sync();
  for (const CheckpointKind* const kind : kinds_) {
    if (fs_.status(at(kind->name(step)))) return;
  }
  unpin(step);
  throw Error(Code::not_found, "no such checkpoint to pin; it may just have been removed", at_file(path_of(step)));
}

bool CheckpointStore::unpin(std::int64_t step) const {
  try {
    fs_.remove(at(names::pin(step)));
  } catch (const Error& error) {
    if (error.code() != Code::not_found) throw;
    return false;
  }
  sync();
  return true;
}

// ---- what else is there

std::vector<StoredEntry> CheckpointStore::quarantined() const {
  std::vector<StoredEntry> entries;
  for (const std::string& name : names()) {
    const auto parsed = parse_quarantined(name);
    if (parsed && is_own(*parsed, name)) entries.push_back({parsed->step, at(name), parsed->kind->size(fs_, at(name))});
  }
  return entries;
}

std::vector<StoredEntry> CheckpointStore::leftovers() const {
  std::vector<StoredEntry> entries;
  for (const std::string& name : names()) {
    const auto removed = parse_removed(name);
    const auto left = removed ? removed : parse_pending(name);
    if (!left || !is_own(*left, name)) continue;
    entries.push_back({removed ? left->step : 0, at(name), left->kind->size(fs_, at(name))});
  }
  return entries;
}

std::vector<std::int64_t> CheckpointStore::pins() const {
  std::vector<std::int64_t> steps;
  for (const std::string& name : names()) {
    if (const auto step = names::parse_pin(name)) steps.push_back(*step);
  }
  return steps;
}

}  // namespace torchkeep
