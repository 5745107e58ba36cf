// SPDX-License-Identifier: BSD-3-Clause
// A save over many ranks: every rank writes one file into a hidden folder, and one rename makes all of them a
// checkpoint.
//
//   every rank  await the beginning | write its file, sync it, sync the folder | confirm | report | await the verdict
//   the leader  hidden folder, beginning | all reports | check | index, synced | rename | sync | verdict
//
// A death or failure before the rename leaves a hidden folder, one after it the whole checkpoint. A rank that misses
// the verdict looks at the folder: the file system is the truth.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include <torchkeep/ranks/machine.h>
#include <torchkeep/ranks/report.h>

namespace torchkeep {

/// How a save ended for this process.
struct SaveOutcome {
  bool committed = false;
  CheckpointId checkpoint = {};
  std::string why = {};  ///< of one that is not: it was abandoned, and the training goes on
};

/// One rank's part. The leader's process runs one of these, too.
class SaveMember final : public RankMachine {
 public:
  /// `last_token`: of the last save that this rank took part in; this one is noted there. Must outlive it.
  SaveMember(RankIdentity me, std::int64_t step, std::string& last_token, RankDeadlines deadlines, Seconds now);

  RankAction next(Seconds now) override;
  void answer(const RankAnswer& answer, Seconds now) override;
  /// There once next() said `end`.
  const std::optional<SaveOutcome>& outcome() const noexcept { return outcome_; }

 private:
  enum class State : std::uint8_t {
    await_begin,
    write,
    sync,
    confirm,
    report,
    await_verdict,
    await_next,  ///< whether the leader has begun another save meanwhile
    look,
    settle,  ///< it is published: is the name safe from a power cut?
    end,
  };
  void begin_found(const RankAnswer& answer, Seconds now);
  void join(const SaveBegin& begin);
  void part_done(const RankAnswer& answer, State then);
  void written(const RankAnswer& answer);
  void fill_outbox();
  void reported(const RankAnswer& answer, Seconds now);
  void verdict_found(const RankAnswer& answer);
  void next_found(const RankAnswer& answer, Seconds now);
  void looked(const RankAnswer& answer);
  void settled(const RankAnswer& answer);
  bool is_board_gone(const RankAnswer& answer);
  void doubt(std::string why);
  void finish(bool committed, std::string why);
  RankAction work(RankWork what) const;

  RankIdentity me_;
  std::int64_t step_;
  std::string& last_token_;
  RankDeadlines deadlines_;
  Seconds deadline_;
  State state_ = State::await_begin;
  bool wait_ = false;  ///< the next action is to wait
  int failures_ = 0;   ///< of the board, in a row
  CheckpointId checkpoint_;
  RankReport report_;
  std::vector<std::pair<std::string, std::string>> outbox_;  ///< what is to be put, the last first
  std::string doubt_;                                        ///< why it looks instead of waiting on
  std::optional<SaveOutcome> outcome_;
};

/// The leader's part.
class SaveLeader final : public RankMachine {
 public:
  /// The token: random, of letters and digits, another one for every save. `hosts` by rank, for messages: those of
  /// reports are noted there. Must outlive it.
  SaveLeader(RankIdentity me, CheckpointId checkpoint, std::vector<std::string>& hosts, RankDeadlines deadlines,
             Seconds now);

  RankAction next(Seconds now) override;
  void answer(const RankAnswer& answer, Seconds now) override;
  const std::optional<SaveOutcome>& outcome() const noexcept { return outcome_; }

 private:
  enum class State : std::uint8_t {
    make_folder,
    begin,
    collect,
    take_report,
    write_index,
    sync_folder,
    publish,
    look,
    sync_parent,
    verdict,
    discard,
    end,
  };
  enum class Asked : std::uint8_t { failure, report, piece };
  RankAction next_of_collection(Seconds now);
  void collected(const RankAnswer& answer, Seconds now);
  void failure_found(const RankAnswer& answer);
  void not_there(Seconds now);
  void take(std::string_view bytes);
  void sweep_ended(Seconds now);
  void publish_ended(const RankAnswer& answer);
  void parent_synced(const RankAnswer& answer);
  void end();
  void on(const RankAnswer& answer, State then);
  void abandon(std::string why);
  RankAction work(RankWork what) const;

  RankIdentity me_;
  CheckpointId checkpoint_;
  std::vector<std::string>& hosts_;
  RankDeadlines deadlines_;
  Seconds began_;
  State state_ = State::make_folder;
  Asked asked_ = Asked::failure;
  bool wait_ = false;      ///< the next action is to wait
  bool sweeping_ = false;  ///< looks at every missing rank once, to name those that are
  bool warned_ = false;
  std::size_t cursor_ = 0;            ///< the rank that is asked for: next_, but in a sweep
  std::string message_;               ///< of it, as far as it is there
  std::size_t pieces_ = 0;            ///< of the message, besides its head
  std::size_t piece_ = 0;             ///< that is asked for
  std::size_t next_ = 0;              ///< the rank whose report is taken next
  RankReport report_;                 ///< that is taken
  std::vector<std::size_t> missing_;  ///< of a sweep
  std::string tell_;
  std::string publish_error_;
  SaveVerdict verdict_;
  std::optional<SaveOutcome> outcome_;
};

}  // namespace torchkeep
