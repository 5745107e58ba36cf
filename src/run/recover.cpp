// SPDX-License-Identifier: BSD-3-Clause
// Recovery, from the newest checkpoint backwards:
//
//   1 load     it whole, with every CRC checked: it verifies, or it is damaged and the next older is tried; or hand it
//              to the one who reads it into live memory, with the same outcome. One that is whole and not read (a later
//              version wrote it) ends the recovery with an error
//   2 rename   the damaged ones that are newer than the one found, so that they are kept and not overwritten
//   3 sync     the folder
//
// Renaming comes after an older one was found good: where none is, the files stay as they are for people to look at.
#include "recover.h"

#include <cerrno>
#include <exception>
#include <fmt/format.h>

#include <torchkeep/run/schema.h>

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

Value load_step(const CheckpointStore& store, const std::string& path, std::int64_t step, bool whole) {
  Value checkpoint = whole ? store.load(path).from_file(path) : store.open(path);
  if (const std::int64_t found = schema::step_of(checkpoint); found != step)
    throw Error(Code::corrupt, fmt::format("holds step {}, not the one of its name", found), at_file(path));
  return checkpoint;
}

/// What stands under names of checkpoints and is none.
std::vector<std::string> odd_checkpoints(const CheckpointStore& store) {
  std::vector<std::string> odd = odd_entries(store);
  std::erase_if(odd, [&](const std::string& entry) {
    return !store.step_of_name(std::string_view(entry).substr(0, entry.find(' ')));
  });
  return odd;
}

void quarantine(const CheckpointStore& store, Damaged& damaged) {
  try {
    damaged.path = store.quarantine(damaged.path);
  } catch (const Error& error) {
    damaged.left_there = error.what();
  }
}

[[noreturn]] void fail_all_damaged(const CheckpointStore& store, const std::vector<Damaged>& damaged) {
  std::string list;
  for (const Damaged& one : damaged) list += fmt::format("; {}", one.reason);
  for (const StoredEntry& one : store.quarantined()) list += fmt::format("; {}: set aside earlier", one.path);
  for (const std::string& entry : odd_checkpoints(store)) list += fmt::format("; {}", entry);
  throw Error(Code::corrupt,
              "no checkpoint in this folder verifies; restore one from a copy, or move these files away to start from "
              "the beginning" +
                  list,
              at_file(store.directory()));
}

/// Hands the checkpoint to `use`. An error of it is one of the file only when the file does not verify: what the user's
/// objects say about a good file must not set it aside.
void hand_over(const CheckpointStore& store, const Recovered& found, const Use& use) {
  try {
    use(found);
  } catch (const Error& error) {
    if (error.code() == Code::corrupt) store.verify(found.path);
    if (error.code() == Code::io && error.system_error() == EIO) throw;
    throw NotTheFile{std::current_exception()};
  }
}

[[noreturn]] void fail_not_read(const std::string& path, const Error& error) {
  throw Error(error.code(),
              error.message() +
                  "; the file is not damaged, so it was left as it is and no older checkpoint is used in "
                  "its place: resume with a version that reads it, or move it away to continue from the "
                  "checkpoint before it",
              error.where())
      .at(at_file(path));
}

/// The newest of a listing that verifies. Throws Error (not_found) when one went away meanwhile.
std::optional<Recovered> newest_good(const CheckpointStore& store, const std::vector<CheckpointInfo>& all,
                                     std::vector<Damaged>& damaged, const Use& use, bool verify_first) {
  for (auto one = all.rbegin(); one != all.rend(); ++one) {
    try {
      if (use && verify_first) store.verify(one->path);
      Recovered found{one->step, one->path, load_step(store, one->path, one->step, !use), {}};  // 1
      if (use) hand_over(store, found, use);
      return found;
    } catch (const Error& error) {
      const bool may_be_damage = error.code() == Code::unsupported || error.code() == Code::refused;
      if (may_be_damage && store.is_whole(one->path)) fail_not_read(one->path, error);
      if (!may_be_damage && !is_damage(error)) throw;
      damaged.push_back({one->step, one->path, error.what(), {}});
    }
  }
  return std::nullopt;
}

}  // namespace

bool is_damage(const Error& error) noexcept {
  switch (error.code()) {
    case Code::corrupt:
      return true;
    case Code::io:
      return error.system_error() == EIO;  // what a disk says about a sector that it cannot read
    default:
      return false;
  }
}

std::optional<Recovered> recover(const CheckpointStore& store, Role role, const Use& use, bool verify_first) {
  std::vector<Damaged> damaged;
  std::optional<Recovered> found;
  std::vector<CheckpointInfo> all;
  for (int listing = 1;; ++listing) {
    try {
      damaged.clear();
      all = store.list();
      found = newest_good(store, all, damaged, use, verify_first);
      break;
    } catch (const Error& error) {
      // The writer removed it between the listing and the look: there is a newer one.
      if (error.code() != Code::not_found || listing == kListings) throw;
    } catch (const NotTheFile& error) {
      std::rethrow_exception(error.error);
    }
  }
  if (!found) {
    if (!all.empty() || !store.quarantined().empty() || !odd_checkpoints(store).empty()) {
      fail_all_damaged(store, damaged);
    }
    return std::nullopt;
  }
  if (role == Role::writer && !damaged.empty()) {
    for (Damaged& one : damaged) quarantine(store, one);  // 2
    store.sync();                                         // 3
  }
  found->damaged = std::move(damaged);
  return found;
}

}  // namespace torchkeep
