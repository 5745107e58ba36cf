// SPDX-License-Identifier: BSD-3-Clause
// The files behind a save and a resume over many ranks: checkpoints are folders in the folder of a run,
//
//   step-00000400/                     a checkpoint
//   .step-00000400.<token>/            the same while it is written
//   .step-00000400.<token>.removed/    one that goes
//   step-00000400.broken/              one that was damaged
//
// What is in them is the business of a ShareFormat.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <torchkeep/files/fs.h>
#include <torchkeep/ranks/machine.h>
#include <torchkeep/ranks/report.h>

namespace torchkeep {

/// What a checkpoint of many ranks consists of.
class ShareFormat {
 public:
  ShareFormat() = default;
  ShareFormat(const ShareFormat&) = delete;
  ShareFormat& operator=(const ShareFormat&) = delete;
  virtual ~ShareFormat() = default;

  /// Writes this rank's file into the folder, syncs it and reads it back. Returns what the index needs of it. Throws
  /// Error.
  virtual std::string write_share(const std::string& folder, const CheckpointId& checkpoint) = 0;
  /// Returns when what was written is known to be the state of the step; throws Error when it is not.
  virtual void confirm_share() = 0;
  /// Adds a rank's file to the index of a save: rank 0's first, then the others in their order. Throws Error (mismatch)
  /// when they do not fit each other.
  virtual void take_report(const CheckpointId& checkpoint, const RankReport& report) = 0;
  /// Checks that the files of all ranks are the whole, writes the index and syncs each of its files. Throws Error.
  virtual void write_index(const std::string& folder, const CheckpointId& checkpoint) = 0;
  /// The token in a folder's index. Throws Error: not_found when there is no folder, corrupt.
  virtual std::string token_of(const std::string& folder) = 0;
  /// Reads this rank's part. Throws Error: not_found when there is no such folder or it is of another save; corrupt
  /// when a file of it is missing or its bytes are bad: the next older checkpoint is tried then.
  virtual void load(const std::string& folder, const CheckpointId& checkpoint) = 0;
};

/// Does the work that machines want done, in the folder of a run.
class RankFolder {
 public:
  /// `before_publish` is called right before the rename (to confirm the lock of the run); may throw Error. With a
  /// `name`, the folder holds this one checkpoint, whatever its step, under this name.
  RankFolder(Fs& fs, std::string directory, ShareFormat& format, std::function<void()> before_publish = {},
             std::string name = {});

  /// Does the work of an action. Errors are in the answer; other exceptions pass.
  RankAnswer perform(const RankAction& action);

  /// Paths.
  std::string published(std::int64_t step) const;
  std::string hidden(const CheckpointId& checkpoint) const;

  /// Steps of the checkpoints in the folder, ascending.
  std::vector<std::int64_t> steps() const;
  /// Removes a checkpoint; at every moment it is there whole or not at all.
  void remove(const CheckpointId& checkpoint);
  /// Removes what saves that did not come to their end left behind. For the one that holds the lock of the run.
  void remove_leftovers();

 private:
  RankAnswer perform_or_throw(const RankAction& action);
  void discard(const CheckpointId& checkpoint);
  void clear(const std::string& folder);
  void quarantine(const CheckpointId& checkpoint);
  std::optional<CheckpointId> newest_before(const std::optional<CheckpointId>& limit);
  std::string name_of(std::int64_t step) const;
  std::optional<CheckpointId> look(std::int64_t step);

  Fs& fs_;
  std::string directory_;
  ShareFormat& format_;
  std::function<void()> before_publish_;
  std::string name_;  ///< of the only checkpoint; empty: names follow from steps
};

/// The step of "step-00000400", of "step-00000400.broken" and "step-00000400.broken-2"; nothing for other names.
std::optional<std::int64_t> parse_checkpoint_folder(std::string_view name) noexcept;
std::optional<std::int64_t> parse_broken_folder(std::string_view name) noexcept;
/// Whether this is a name of a hidden folder of a save.
bool is_hidden_folder(std::string_view name) noexcept;

}  // namespace torchkeep
