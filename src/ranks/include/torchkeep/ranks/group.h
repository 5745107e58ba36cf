// SPDX-License-Identifier: BSD-3-Clause
// One process among the ranks of a training, with a clock and a thread: drives the machines over a board.
#pragma once

#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include <torchkeep/peers/peers.h>
#include <torchkeep/ranks/meet.h>
#include <torchkeep/ranks/resume.h>
#include <torchkeep/ranks/save.h>

namespace torchkeep {

/// All calls but wish() and messages() come from one thread at a time, that of the training or of its writer.
class RankGroup final {
 public:
  struct Options {
    std::string host = {};  ///< of this process, for messages
    RankDeadlines deadlines = {};
    Seconds poll = 0.2;  ///< between two looks at the board for a wish to meet
    /// Called now and then while a call waits; what it throws ends the call.
    std::function<void()> while_waiting = {};
  };
  /// Every rank opens its groups on a board in the same order: each has a part of the board for itself.
  RankGroup(std::unique_ptr<Peers> board, Options options);
  ~RankGroup();
  RankGroup(const RankGroup&) = delete;
  RankGroup& operator=(const RankGroup&) = delete;

  std::size_t rank() const noexcept { return me_.rank; }
  std::size_t world() const noexcept { return me_.world; }
  Peers& peers() noexcept { return *peers_; }

  /// Does the work of an action of a save or a resume (RankFolder::perform, for one).
  using Work = std::function<RankAnswer(const RankAction&)>;
  /// Resumes with all other ranks. Throws the Error of a resume that fails.
  ResumeOutcome resume(const Work& work);
  /// Saves with all other ranks; `token` is the leader's choice, new for every save.
  SaveOutcome save(std::int64_t step, const std::string& token, const Work& work);

  /// From now on this rank answers wishes to meet; the training has finished this step.
  void watch(std::int64_t step);
  /// See MeetMember. Safe to call from any thread.
  void wish(MeetPurpose purpose, std::string reason);
  /// The training has finished a step. Waits where the others may be about to meet; gives the meeting that is now.
  std::optional<Meeting> reached(std::int64_t step);

  /// Waits until `key` has a value that `is_it` accepts, up to the deadline. Throws Error (io) that says `what` did not
  /// come.
  std::string await(const std::string& key, const std::function<bool(const std::string&)>& is_it,
                    const std::string& what);
  /// What is to be told since the last call: who is waited for, and the like.
  std::vector<std::string> messages();
  /// "rank 3 (n1)".
  std::string describe(std::size_t rank) const;

 private:
  /// Drives machines until `is_done`.
  void drive(Peers& peers, const std::vector<RankMachine*>& machines, const Work& work,
             const std::function<bool()>& is_done);
  enum class Act : std::uint8_t { change, look, wait };
  /// Does what a machine wants next.
  Act do_next(Peers& peers, RankMachine& machine, const Work& work);
  void pause(Seconds& backoff);
  void look_after_meetings();

  std::unique_ptr<Peers> board_;
  std::unique_ptr<Peers> peers_;  ///< this group's part of the board
  Options options_;
  std::size_t resumes_ = 0;  ///< each has keys of its own
  RankIdentity me_;
  std::vector<std::string> hosts_;
  std::string last_token_;

  std::mutex mutex_;  // of all below
  std::condition_variable changed_;
  std::unique_ptr<MeetMember> meet_member_;
  std::unique_ptr<MeetLeader> meet_leader_;
  std::vector<std::string> messages_;
  bool waiting_ = false;  ///< the training waits at a step
  bool ending_ = false;
  std::thread thread_;
};

}  // namespace torchkeep
