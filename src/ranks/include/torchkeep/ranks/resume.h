// SPDX-License-Identifier: BSD-3-Clause
// A resume over many ranks: all from one checkpoint that every rank found good, or from the next older one; never from
// two.
//
//   every rank  hello | await the choice | load, every byte checked | report | await the verdict
//   the leader  all hellos | list once, choose the newest | all reports | verdict: good, or the next older
//
// Damage that any rank finds makes all of them go to the next older checkpoint, which overwrites every byte. Damaged
// checkpoints are renamed when an older one was found good, so that they are kept where none is.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include <torchkeep/ranks/machine.h>
#include <torchkeep/ranks/report.h>

namespace torchkeep {

/// How a resume ended.
struct ResumeOutcome {
  /// What all ranks loaded; nothing: there is no checkpoint and the training begins.
  std::optional<CheckpointId> checkpoint = {};
  /// What is passed over, newest first, and why; the leader has the words of every rank.
  struct Damaged {
    CheckpointId checkpoint;
    std::string why;
  };
  std::vector<Damaged> damaged = {};
  /// Why there is no outcome; then the memory of the training is of no checkpoint and must not be trained on.
  std::optional<Error> error = {};
};

/// One rank's part. The leader's process runs one of these, too.
class ResumeMember final : public RankMachine {
 public:
  ResumeMember(RankIdentity me, RankDeadlines deadlines, Seconds now);

  RankAction next(Seconds now) override;
  void answer(const RankAnswer& answer, Seconds now) override;
  /// There once next() said `end`.
  const std::optional<ResumeOutcome>& outcome() const noexcept { return outcome_; }

 private:
  enum class State : std::uint8_t { hello, await_choice, find, load, report, await_verdict, end };
  void choice_found(const RankAnswer& answer, Seconds now);
  void found(const RankAnswer& answer);
  void loaded(const RankAnswer& answer);
  void verdict_found(const RankAnswer& answer, Seconds now);
  void poll(const RankAnswer& answer, Seconds now, const char* what);
  void fail(Error error);

  RankIdentity me_;
  RankDeadlines deadlines_;
  Seconds deadline_;
  State state_ = State::hello;
  bool wait_ = false;
  int failures_ = 0;
  std::uint64_t attempt_ = 1;
  std::optional<CheckpointId> choice_;
  ResumeReport report_;
  std::optional<Error> own_error_;  ///< thrown in place of the leader's words about it
  std::vector<ResumeOutcome::Damaged> damaged_;
  std::optional<ResumeOutcome> outcome_;
};

/// The leader's part.
class ResumeLeader final : public RankMachine {
 public:
  /// `hosts`: filled by rank, for later messages; must outlive it.
  ResumeLeader(RankIdentity me, std::vector<std::string>& hosts, RankDeadlines deadlines, Seconds now);

  RankAction next(Seconds now) override;
  void answer(const RankAnswer& answer, Seconds now) override;
  const std::optional<ResumeOutcome>& outcome() const noexcept { return outcome_; }

 private:
  enum class State : std::uint8_t { hellos, list, choose, reports, quarantine, sync, verdict, end };
  RankAction next_of_ranks(Seconds now);
  void heard(const RankAnswer& answer, Seconds now);
  bool take(const std::string& value);
  void all_are_there();
  void listed(const RankAnswer& answer);
  void decide();
  void refuse(std::string why, Code code = Code::mismatch);
  void told(const RankAnswer& answer);
  void finish(Error error);
  void sweep_ended(Seconds now);
  std::string with_damaged(std::string message) const;
  std::string what_they_found() const;

  RankIdentity me_;
  std::vector<std::string>& hosts_;
  RankDeadlines deadlines_;
  Seconds began_;
  State state_ = State::hellos;
  bool wait_ = false;
  bool sweeping_ = false;
  bool warned_ = false;
  std::size_t cursor_ = 0;
  std::vector<bool> there_;
  std::size_t count_ = 0;
  ResumeChoice choice_;
  std::vector<ResumeReport> reports_;
  std::vector<ResumeOutcome::Damaged> damaged_;
  std::size_t to_quarantine_ = 0;
  std::string tell_;
  ResumeVerdict verdict_;
  std::optional<ResumeOutcome> outcome_;
};

/// True when the error says that bytes are bad: then an older checkpoint may be good.
bool is_rank_damage(const Error& error) noexcept;

}  // namespace torchkeep
