// SPDX-License-Identifier: BSD-3-Clause
// Restoring in two passes: the second puts in what prepare() checked for every object in the first.
#include "restore.h"

#include <algorithm>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <torchkeep/run/schema.h>

#include "places.h"

namespace torchkeep {
namespace {

std::string join(const std::vector<std::string>& names) {
  return fmt::format("'{}'", fmt::join(names, "', '"));
}

bool may_miss(const TrackedItem& item, const RunOptions& options) {
  const auto& names = options.may_be_missing;
  return !item.tracked.required || std::find(names.begin(), names.end(), item.name) != names.end();
}

[[noreturn]] void fail(const std::string& file, const std::vector<std::string>& missing,
                       const std::vector<Error>& errors, Spelling spelling) {
  if (missing.empty() && errors.size() == 1) throw Error(errors.front());
  std::string message = "the checkpoint does not fit what is tracked, and nothing was changed";
  if (!missing.empty()) {
    message += fmt::format("; it lacks {} ({} lets these start fresh)", join(missing),
                           spelling == Spelling::python ? "Run(may_be_missing=[...])" : "RunOptions::may_be_missing");
  }
  for (const Error& error : errors) message += fmt::format("; {}: {}", error.where().key, error.message());
  throw Error(Code::mismatch, std::move(message), at_file(file))
      .caused_by(errors.empty() ? nullptr : errors.front().cause());
}

void warn_about_entries(const std::vector<TrackedItem>& items, const Value& checkpoint,
                        const std::function<void(std::string)>& warn) {
  std::vector<std::string> fresh;
  std::vector<std::string> ignored;
  for (const TrackedItem& item : items) {
    if (!checkpoint.contains(Value::string(item.name))) fresh.push_back(item.name);
  }
  for (const Entry& entry : checkpoint.items()) {
    const std::string name = entry.key.is(Kind::string) ? entry.key.as_string() : "an entry without a name";
    if (!schema::is_reserved(name) && !is_tracked(items, name)) ignored.push_back(name);
  }
  const std::string file = checkpoint.where().file;
  if (!fresh.empty()) warn(fmt::format("{}: has no state of {}, which starts fresh", file, join(fresh)));
  if (!ignored.empty()) {
    warn(fmt::format("{}: has {}, which this program does not track; it will not be in the next checkpoint", file,
                     join(ignored)));
  }
}

/// Puts back what the changes up to this one did, the last one first; false when one of them cannot.
bool undo(const std::vector<Change>& changes, std::size_t last) {
  for (std::size_t i = last + 1; i-- > 0;) {
    if (!changes[i].undo) return false;
    try {
      changes[i].undo();
    } catch (const Error&) {
      return false;
    }
  }
  return true;
}

/// The same change, whose errors say where in the file the state is.
Change named(Change change, const Where& where) {
  change.make = [make = std::move(change.make), where] {
    try {
      make();
    } catch (const Error& error) {
      throw error.at(where);
    }
  };
  return change;
}

void make(const std::vector<Change>& changes, const std::string& file) {
  for (std::size_t i = 0; i < changes.size(); ++i) {
    try {
      changes[i].make();
    } catch (const Error& error) {
      const bool undone = undo(changes, i);
      if (!undone && i == 0) throw;
      throw Error(error.code(),
                  error.message() + (undone ? "; nothing was changed"
                                            : "; what was tracked before it is restored already: do not train on"),
                  error.where())
          .at(at_file(file))
          .caused_by(error.cause());
    }
  }
}

}  // namespace

bool is_tracked(const std::vector<TrackedItem>& items, std::string_view name) noexcept {
  return std::any_of(items.begin(), items.end(), [&](const TrackedItem& item) { return item.name == name; });
}

Value capture(const TrackedItem& item) {
  try {
    return item.tracked.capture();
  } catch (const Error& error) {
    Where where = error.where();
    where.key = where.key.empty() ? item.name : item.name + "." + where.key;
    throw Error(error.code(), error.message(), std::move(where))
        .with_errno(error.system_error())
        .caused_by(error.cause());
  }
}

void restore(const std::vector<TrackedItem>& items, const RunOptions& options, const Value& checkpoint,
             const std::function<void(std::string)>& warn) {
  std::vector<Change> changes;
  std::size_t unchecked = 0;  // of the changes; they stand first
  std::vector<Error> errors;
  std::vector<std::string> missing;
  for (const TrackedItem& item : items) {
    const auto state = checkpoint.find(Value::string(item.name));
    if (!state) {
      if (!may_miss(item, options)) missing.push_back(item.name);
      continue;
    }
    try {
      Change change = named(item.tracked.prepare(*state), state->where());
      const auto place = item.tracked.checks && change.checked
                             ? changes.end()
                             : changes.begin() + static_cast<std::ptrdiff_t>(unchecked++);
      changes.insert(place, std::move(change));
    } catch (const Error& error) {
      // The file, not what is tracked: recover() then looks at the next older one.
      if (error.code() == Code::corrupt || error.code() == Code::io) throw error.at(state->where());
      errors.push_back(error.at(state->where()));
    }
  }
  const std::string file = checkpoint.where().file;
  if (!missing.empty() || !errors.empty()) fail(file, missing, errors, options.spelling);
  warn_about_entries(items, checkpoint, warn);
  make(changes, file);
}

}  // namespace torchkeep
