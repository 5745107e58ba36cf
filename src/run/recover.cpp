// SPDX-License-Identifier: BSD-3-Clause
// Recovery, from the newest checkpoint backwards:
//
//   1 load     it whole, with every CRC checked: it verifies, or it is damaged and the next older is tried; or hand it
//   to
//              the one who reads it into live memory, with the same outcome
//   2 rename   the damaged ones that are newer than the one found, so that they are kept and not overwritten
//   3 sync     the folder
//
// Renaming comes after an older one was found good: where none is, the files stay as they are for people to look at.
#include "recover.h"

#include <cerrno>
#include <exception>
#include <fmt/format.h>

#include <torchkeep/checkpoint/checkpoint.h>
#include <torchkeep/run/checkpoints.h>
#include <torchkeep/run/names.h>

#include "entries.h"
#include "places.h"

namespace torchkeep {
namespace {

constexpr int kListings = 10;

/// An error of whoever used a checkpoint that verifies.
struct NotTheFile {
  std::exception_ptr error;
};

using Use = std::function<void(const Recovered&)>;

Value load_step(Fs& fs, const std::string& path, std::int64_t step, bool whole) {
  Value checkpoint = whole ? load(path, {.fs = &fs}) : open_checkpoint(path, {.fs = &fs});
  const auto found = checkpoint.is_mapping() ? checkpoint.find("step") : std::nullopt;
  if (!found || !found->is(Kind::integer)) {
    throw Error(Code::corrupt, "expected the checkpoint of a run, a dict with a step; found another file",
                at_file(path));
  }
  if (found->to<std::int64_t>() != step) {
    throw Error(Code::corrupt, fmt::format("holds step {}, not the one of its name", found->to<std::int64_t>()),
                at_file(path));
  }
  return checkpoint;
}

/// What stands under names of checkpoints and is no file.
std::vector<std::string> odd_checkpoints(Fs& fs, const std::string& directory) {
  std::vector<std::string> odd = odd_entries(fs, directory);
  std::erase_if(odd, [](const std::string& entry) {
    return !names::parse_checkpoint(std::string_view(entry).substr(0, entry.find(' ')));
  });
  return odd;
}

void set_aside(Fs& fs, const std::string& directory, Damaged& damaged) {
  try {
    int number = 1;
    std::string path = in_directory(directory, names::broken(damaged.step, number));
    while (fs.entry(path)) path = in_directory(directory, names::broken(damaged.step, ++number));
    fs.rename(damaged.path, path);
    damaged.path = path;
  } catch (const Error& error) {
    damaged.left_there = error.what();
  }
}

[[noreturn]] void fail_all_damaged(Fs& fs, const std::string& directory, const std::vector<Damaged>& damaged) {
  std::string list;
  for (const Damaged& one : damaged) list += fmt::format("; {}", one.reason);
  for (const std::string& name : fs.list(directory)) {
    if (names::parse_broken(name)) list += fmt::format("; {}: set aside earlier", in_directory(directory, name));
  }
  for (const std::string& entry : odd_checkpoints(fs, directory)) list += fmt::format("; {}", entry);
  throw Error(Code::corrupt,
              "no checkpoint in this folder verifies; restore one from a copy, or move these files away to start from "
              "the beginning" +
                  list,
              at_file(directory));
}

bool has_broken(Fs& fs, const std::string& directory) {
  if (!fs.status(directory)) return false;
  for (const std::string& name : fs.list(directory)) {
    if (names::parse_broken(name)) return true;
  }
  return false;
}

/// Hands the checkpoint to `use`. An error of it is one of the file only when the file does not verify: what the user's
/// objects say about a good file must not set it aside.
void hand_over(Fs& fs, const Recovered& found, const Use& use) {
  try {
    use(found);
  } catch (const Error& error) {
    if (error.code() == Code::corrupt) verify(found.path, {.fs = &fs});
    if (error.code() == Code::io && error.system_error() == EIO) throw;
    throw NotTheFile{std::current_exception()};
  }
}

/// The newest of a listing that verifies. Throws Error (not_found) when one went away meanwhile.
std::optional<Recovered> newest_good(Fs& fs, const std::vector<CheckpointInfo>& all, std::vector<Damaged>& damaged,
                                     const Use& use, bool verify_first) {
  for (auto one = all.rbegin(); one != all.rend(); ++one) {
    try {
      if (use && verify_first) verify(one->path, {.fs = &fs});
      Recovered found{one->step, one->path, load_step(fs, one->path, one->step, !use), {}};  // 1
      if (use) hand_over(fs, found, use);
      return found;
    } catch (const Error& error) {
      if (!is_damage(error)) throw;
      damaged.push_back({one->step, one->path, error.what(), {}});
    }
  }
  return std::nullopt;
}

}  // namespace

bool is_damage(const Error& error) noexcept {
  switch (error.code()) {
    case Code::corrupt:
    case Code::refused:
    case Code::unsupported:
      return true;
    case Code::io:
      return error.system_error() == EIO;  // what a disk says about a sector that it cannot read
    default:
      return false;
  }
}

std::optional<Recovered> recover(Fs& fs, const std::string& directory, Role role, const Use& use, bool verify_first) {
  std::vector<Damaged> damaged;
  std::optional<Recovered> found;
  std::vector<CheckpointInfo> all;
  for (int listing = 1;; ++listing) {
    try {
      damaged.clear();
      all = list_checkpoints(directory, fs);
      found = newest_good(fs, all, damaged, use, verify_first);
      break;
    } catch (const Error& error) {
      // The writer removed it between the listing and the look: there is a newer one.
      if (error.code() != Code::not_found || listing == kListings) throw;
    } catch (const NotTheFile& error) {
      std::rethrow_exception(error.error);
    }
  }
  if (!found) {
    if (!all.empty() || has_broken(fs, directory) || !odd_checkpoints(fs, directory).empty()) {
      fail_all_damaged(fs, directory, damaged);
    }
    return std::nullopt;
  }
  if (role == Role::writer && !damaged.empty()) {
    for (Damaged& one : damaged) set_aside(fs, directory, one);  // 2
    fs.sync_directory(directory);                                // 3
  }
  found->damaged = std::move(damaged);
  return found;
}

}  // namespace torchkeep
