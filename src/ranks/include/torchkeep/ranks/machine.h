// SPDX-License-Identifier: BSD-3-Clause
// What a rank does in a save, a resume or a stop over many ranks, as machines: a machine says what is to be done next
// and is told how that ended. It holds no thread, no clock, no file and no connection, so that a test can do in any
// order, at any time and with any failure what a training does once.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include <torchkeep/base/error.h>
#include <torchkeep/peers/peers.h>

namespace torchkeep {

struct RankReport;  // report.h

/// Seconds of a clock that never goes back; where it begins does not matter.
using Seconds = double;

/// How long ranks wait for each other.
struct RankDeadlines {
  Seconds warn_after = 60;       ///< then an event names the missing ranks and their hosts
  Seconds give_up_after = 1800;  ///< then a save is abandoned, and a resume ends with an error
};

/// Who this process is among the ranks.
struct RankIdentity {
  std::size_t rank = 0;
  std::size_t world = 1;
  std::string host;  ///< for messages
};

/// The rank that leads saves, resumes and stops.
inline constexpr std::size_t kLeader = 0;

/// A checkpoint of many ranks: a folder, and the random token of the save that made it.
struct CheckpointId {
  std::int64_t step = 0;
  std::string token;
  bool operator==(const CheckpointId&) const = default;
};

/// Work with files or with the memory of the training, which the driver of a machine does for it.
enum class RankWork : std::uint8_t {
  // of a save; in the folder of RankAction::checkpoint
  make_folder,    ///< leader: create the hidden folder
  write_share,    ///< write this rank's file, sync it, read it back; answer: RankAnswer::value, what the index needs
  sync_folder,    ///< sync the hidden folder
  confirm_share,  ///< what was written is the state of the step: an error when live memory changed meanwhile
  take_report,    ///< leader: add RankAction::report to the index; rank 0's first, then the others in their order
  write_index,    ///< leader: check that the files of all ranks are the whole, and write the index, synced
  publish,        ///< leader: rename the hidden folder to its name
  sync_parent,    ///< leader: sync the folder that holds it
  discard,        ///< leader: remove the hidden folder
  look,           ///< whether this save is published: RankAnswer::checkpoint, when it is
  // of a resume
  list,  ///< leader: the newest checkpoint older than RankAction::checkpoint (any, without): RankAnswer::checkpoint
  find,  ///< the newest checkpoint that this rank sees: RankAnswer::checkpoint
  load,  ///< read this rank's part of RankAction::checkpoint, every byte checked
  quarantine,  ///< leader: rename the damaged RankAction::checkpoint, so that it is not looked at again
};

/// What a machine wants done.
struct RankAction {
  enum class Kind : std::uint8_t {
    wait,  ///< nothing now: ask again later
    put,   ///< put `value` under `key` on the board
    get,   ///< get `key` from it
    work,  ///< `work`
    tell,  ///< tell the user `value`
    end,   ///< nothing ever again: the result is there
  };
  Kind kind = Kind::wait;
  std::string key = {};
  std::string value = {};
  RankWork work = RankWork::look;
  std::optional<CheckpointId> checkpoint = {};
  const RankReport* report = nullptr;  ///< of take_report; valid until the answer
};

/// How an action ended. Of `tell`, `wait` and `end` there is no answer.
struct RankAnswer {
  std::optional<Error> error = {};
  std::optional<std::string> value = {};        ///< of get and write_share
  std::optional<CheckpointId> checkpoint = {};  ///< of look, list and find
};

/// One rank's part in a save, a resume or a stop. Calls alternate: next(), and answer() unless there is none.
class RankMachine {
 public:
  RankMachine() = default;
  RankMachine(const RankMachine&) = delete;
  RankMachine& operator=(const RankMachine&) = delete;
  virtual ~RankMachine() = default;
  /// What is to be done now. Never twice the same put or work, unless it failed.
  virtual RankAction next(Seconds now) = 0;
  virtual void answer(const RankAnswer& answer, Seconds now) = 0;
};

/// "ranks 0-3 (n1), 17 (n113)": for people. `hosts` by rank, as far as they are known.
std::string describe_ranks(std::span<const std::size_t> ranks, std::span<const std::string> hosts);

}  // namespace torchkeep
