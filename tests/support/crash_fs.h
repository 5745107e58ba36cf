// SPDX-License-Identifier: BSD-3-Clause
// A file system that remembers what was done to it and rebuilds every disk that a kill or a power cut could leave.
//
// The model is what POSIX promises and no more:
//  - a write to a file is on stable storage after the next File::sync of that file. Before, a power cut leaves all of
//    it, nothing, its beginning, or only the new length filled with zeros; each write on its own, in any order;
//  - a link, unlink or rename in a folder is on stable storage after the next sync_directory of that folder. Before, it
//    is there or not, each on its own; a rename within one folder is never half done, between folders it may be;
//  - syncing a file says nothing about its name, syncing a folder nothing about the files in it or its own name;
//  - of what several clients of a network file system do (act_as), a sync covers what its own client did, and the
//    renames of others, which it sees;
//  - a kill of the process loses nothing that was done, but may cut the write that was under way.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "support/memory_fs.h"

namespace torchkeep::testing {

/// What a crash did to one event that was not yet on stable storage.
struct Fate {
  enum class Kind { done, lost, beginning, zeros };
  std::size_t event = 0;  ///< index into CrashFs::events()
  Kind kind = Kind::done;
  std::size_t length = 0;  ///< of `beginning`: bytes that got there
};

/// One disk that a crash could leave.
struct CrashImage {
  Disk disk;                  ///< what the next start finds
  int acknowledged = 0;       ///< the last CrashFs::acknowledge() before the crash
  std::size_t operation = 0;  ///< events begun before the crash
  std::vector<Fate> fates;    ///< of all events that were not on stable storage
};

struct CrashBudget {
  /// Images tried exhaustively between two syncs; where there are more combinations, this many are drawn by `seed`,
  /// besides the systematic ones: all lost, each one lost, each one alone kept, and every kill.
  std::size_t images_per_point = 4096;
  std::uint64_t seed = 1;
};

/// How many images a test of crashes looks at: TORCHKEEP_CRASH_IMAGES, or its usual number.
std::size_t crash_images_wanted();

struct CrashCount {
  std::size_t images = 0;  ///< different (disk, acknowledged) pairs that were checked
  bool exhaustive = true;  ///< false: some were drawn at random
};

class CrashFs final {
 public:
  /// Everything on `disk` is on stable storage.
  explicit CrashFs(Disk disk = {}, MemoryFsSettings settings = {});

  /// The file system to work on. Safe to use from several threads.
  Fs& fs() noexcept { return memory_; }
  /// See MemoryFs::act_as().
  void act_as(int client) { memory_.act_as(client); }
  /// Notes that from here on the caller was told `what` (a number that grows: "checkpoint 3 is safe").
  void acknowledge(int what);

  /// Calls `check` with every disk that a crash at any moment so far could have left, each once.
  CrashCount for_each_image(const CrashBudget& budget, const std::function<void(const CrashImage&)>& check) const;
  /// What happened in an image, for people: one line for each event that did not get through.
  std::string story(const CrashImage& image) const;

 private:
  struct Entry {
    DiskEvent event;
    std::optional<int> acknowledged;  ///< instead of an event
  };

  Disk start_;
  mutable std::mutex mutex_;
  std::vector<Entry> log_;
  MemoryFs memory_;
};

}  // namespace torchkeep::testing
