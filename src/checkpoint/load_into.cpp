// SPDX-License-Identifier: BSD-3-Clause
// load_into: a file straight into live memory.
//
//   1 match   every tensor of the targets with the file's, by key path: nothing is read but the pickle
//   2 verify  the whole file, when asked to
//   3 load    what no target wants, into memory of its own
//   4 read    the records into the targets: from here on an error leaves them half old, half new
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <map>
#include <set>
#include <vector>

#include <torchkeep/format/live_reader.h>
#include <torchkeep/state/compound.h>
#include <torchkeep/state/walk.h>

#include "open_path.h"
#include "threads.h"

namespace torchkeep {
namespace {

// Counters, scalars: together they are little, and one by one they cost a system call each.
constexpr std::uint64_t kLoadedAtOnce = 4096;
constexpr std::size_t kDeepest = 1000;  // targets are built by a program, not read from a file

class Matcher {
 public:
  LiveReader reader;

  /// The file's value with the targets' tensors in it.
  Value match(const Value& target, const Value& file, std::size_t depth = 0) {
    if (depth > kDeepest) throw Error(Code::invalid_argument, "targets that are nested too deeply");
    if (target.is(Kind::tensor)) return match_tensor(target, file);
    if (!target.is_mapping() && !target.is_sequence()) return file;
    // What is shared on both sides is one pair, however often it is met.
    const std::pair both(target.id(), file.id());
    if (const auto known = matched_.find(both); known != matched_.end()) return known->second;
    Value merged = target.is_mapping() ? match_mapping(target, file, depth) : match_sequence(target, file, depth);
    return matched_.emplace(both, std::move(merged)).first->second;
  }

  void finish(const Value& file) {
    if (problems_.empty()) return;
    file.fail(Code::mismatch, fmt::format("the file does not fit the targets, and nothing was changed: {}",
                                          fmt::join(problems_, "; ")));
  }

 private:
  Value match_tensor(const Value& target, const Value& file) {
    if (!file.is(Kind::tensor)) {
      problem(file, fmt::format("a {} in the file, a tensor here", to_string(file.kind())));
      return file;
    }
    const Tensor& from = file.as_tensor();
    const Tensor& to = target.as_tensor();
    const std::string reason = why_not_in_place(from, to);
    if (!reason.empty()) {
      problem(file, reason);
      return file;
    }
    // Targets that are one tensor must be one in the file too.
    if (const auto clash = reader.add(from, to).clashes) {
      problems_.push_back(
          fmt::format("'{}' and '{}' share memory here and not in the file", paths_[*clash], file.key_path()));
    }
    paths_.push_back(file.key_path());
    return target;
  }

  Value match_mapping(const Value& target, const Value& file, std::size_t depth) {
    if (!file.is_mapping()) {
      problem(file, fmt::format("a {} in the file, a {} here", to_string(file.kind()), to_string(target.kind())));
      return file;
    }
    Value merged = file;
    for (const Entry& entry : target.items()) {
      if (file.contains(entry.key))
        merged.set(entry.key, match(entry.value, file.at(entry.key), depth + 1));
      else if (has_tensor(entry.value))
        problem(file, fmt::format("no key {}", describe(entry.key)));
    }
    return merged;
  }

  Value match_sequence(const Value& target, const Value& file, std::size_t depth) {
    if (!file.is_sequence() || file.size() != target.size()) {
      if (has_tensor(target)) problem(file, fmt::format("not the {} elements that are here", target.size()));
      return file;
    }
    std::vector<Value> elements;
    for (std::size_t i = 0; i < file.size(); ++i) {
      const auto index = static_cast<std::int64_t>(i);
      elements.push_back(match(target.elements()[i], file[index], depth + 1));
    }
    Value merged = Value::sequence(file.kind(), std::move(elements));
    if (file.label() != 0) merged.set_label(file.label());  // something inside refers back to it
    return merged;
  }

  static bool has_tensor(const Value& value) {
    bool found = false;
    walk(value, [&found](const Visit& visit) {
      found = visit.value.is(Kind::tensor);
      return found ? Next::stop : Next::inside;
    });
    return found;
  }

  static std::string describe(const Value& key) {
    return fmt::format("'{}'", Step{Step::Kind::key, key, 0, {}}.text());
  }

  void problem(const Value& file, const std::string& reason) {
    const std::string path = file.key_path();
    problems_.push_back(path.empty() ? reason : fmt::format("'{}': {}", path, reason));
  }

  std::map<std::pair<const void*, const void*>, Value> matched_;  // containers, by target and file
  std::vector<std::string> paths_;                                // of the pairs
  std::vector<std::string> problems_;
};

LoadOptions of_load(const LoadIntoOptions& options) {
  return {.unknown_classes = options.unknown_classes,
          .keep_builtin_classes = options.keep_builtin_classes,
          .limits = options.limits,
          .fs = options.fs};
}

void check_compounds_of(const Value& value, const std::string& path) {
  try {
    check_compounds(value);
  } catch (const Error& error) {
    throw error.at({.file = path, .record = {}, .offset = {}, .key = {}});
  }
}

}  // namespace

OpenedCheckpoint::OpenedCheckpoint(const std::string& path, const LoadIntoOptions& options)
    : file_(open_structure(path, of_load(options))), threads_(reading_threads(options.threads)) {
  std::vector<std::shared_ptr<RecordStorage>> small;
  for (const auto& storage : file_.records) {
    if (storage->nbytes() <= kLoadedAtOnce) small.push_back(storage);
  }
  try {
    load_storages(small, threads_);
  } catch (const Error& error) {
    throw with_tensors(error, file_);
  }
  check_compounds_of(file_.value, path);
  file_.value = file_.value.from_file(path);
}

void OpenedCheckpoint::verify() const {
  check_records(file_, threads_);
}

Value open_checkpoint(const std::string& path, const LoadIntoOptions& options) {
  return OpenedCheckpoint(path, options).value();
}

Value load_into(const std::string& path, const Value& targets, const LoadIntoOptions& options) {
  const unsigned threads = reading_threads(options.threads);
  const OpenedFile file = open_structure(path, of_load(options));
  const Value saved = (file.has_other_storages ? file.value.clone() : file.value).from_file(path);
  check_compounds_of(saved, path);
  Matcher matcher;
  const Value merged = matcher.match(targets, saved);  // 1
  matcher.finish(saved);
  if (options.verify_first) check_records(file, threads);  // 2
  load_storages(records_of(file, merged), threads);        // 3
  matcher.reader.read(threads);                            // 4
  return merged.from_file(path);
}

}  // namespace torchkeep
