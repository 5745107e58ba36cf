// SPDX-License-Identifier: BSD-3-Clause
// How ranks meet at one step, to stop or to save together, without a collective in the loop: each hears of it late, and
// none may be a step further than the others when it does.
//
//   any rank    wishes for a meeting (SIGTERM came, a save is due by the clock)
//   the leader  asks | proposes a step that no rank has finished | all accept: it is final; else proposes a later one
//   every rank  answers with its step; one that comes to a step it accepted waits there for the final word, and says
//               that it has it, before which the leader begins nothing new
//
// Without the waiting, a rank that hears late would pass the step that the others stop at.
#pragma once

#include <deque>
#include <optional>
#include <string>
#include <vector>

#include <torchkeep/ranks/machine.h>
#include <torchkeep/ranks/report.h>

namespace torchkeep {

/// A meeting that takes place at a step.
struct Meeting {
  std::int64_t step = 0;
  MeetPurpose purpose = MeetPurpose::save;
  std::string reason{};
};

/// One rank's part. reached() and wish() are the training's calls, next() and answer() those of the thread that looks
/// after the board; a caller of both holds one mutex.
class MeetMember final : public RankMachine {
 public:
  explicit MeetMember(RankIdentity me, std::int64_t step, RankDeadlines deadlines);

  /// This rank wants to meet. Repeated wishes of one purpose are one.
  void wish(MeetPurpose purpose, std::string reason);

  enum class Answer : std::uint8_t { go_on, wait, meet };
  /// The training has finished a step: what it does before it begins the next. `wait`: ask again later, with the same
  /// step. Waiting ends at the deadline with go_on.
  Answer reached(std::int64_t step, Seconds now);
  /// Of the last answer `meet`.
  const Meeting& meeting() const noexcept { return meeting_; }

  RankAction next(Seconds now) override;
  void answer(const RankAnswer& answer, Seconds now) override;

 private:
  enum class State : std::uint8_t { wish, proposal, reply, final_word };
  void proposal_found(const RankAnswer& answer);
  void final_found(const RankAnswer& answer);

  RankIdentity me_;
  std::int64_t step_;  ///< that the training has finished
  RankDeadlines deadlines_;
  State state_ = State::proposal;
  bool wait_ = false;
  std::vector<MeetMessage> wishes_;  ///< not yet put
  std::uint64_t wished_ = 0;         ///< number of wishes, for their rounds
  std::uint64_t answered_ = 0;       ///< round
  MeetMessage reply_;
  std::optional<std::int64_t> accepted_;  ///< proposed step that this rank waits at
  std::optional<Seconds> waiting_since_;
  std::uint64_t final_round_ = 0;  ///< of the last final word
  std::deque<Meeting> finals_;     ///< to come, the next first
  Meeting meeting_;
};

/// The leader's part.
class MeetLeader final : public RankMachine {
 public:
  /// `hosts` by rank; must outlive it.
  MeetLeader(RankIdentity me, const std::vector<std::string>& hosts, RankDeadlines deadlines);

  RankAction next(Seconds now) override;
  void answer(const RankAnswer& answer, Seconds now) override;

 private:
  enum class State : std::uint8_t { idle, propose, answers, final_word, heard };
  void wish_found(const RankAnswer& answer, Seconds now);
  void answer_found(const RankAnswer& answer, Seconds now);
  void all_answered();
  void give_up(std::string why);

  RankIdentity me_;
  const std::vector<std::string>& hosts_;
  RankDeadlines deadlines_;
  State state_ = State::idle;
  bool wait_ = false;
  std::size_t cursor_ = 0;                  ///< whose answer or wish is asked for
  std::vector<std::uint64_t> wishes_done_;  ///< round of each rank's last wish
  MeetMessage proposal_;
  Seconds began_ = 0;
  std::int64_t furthest_ = 0;  ///< step of any rank, or of the last meeting
  std::int64_t ahead_ = 0;     ///< of the next proposal
  bool any_late_ = false;
  std::string tell_;
};

}  // namespace torchkeep
