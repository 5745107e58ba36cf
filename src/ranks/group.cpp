// SPDX-License-Identifier: BSD-3-Clause
// The drivers of the machines. The board is never called with the mutex held: it may be a network, or another language.
#include <algorithm>
#include <chrono>
#include <fmt/format.h>
#include <utility>

#include <torchkeep/base/parallel.h>
#include <torchkeep/ranks/group.h>

namespace torchkeep {
namespace {

constexpr Seconds kShortestPause = 0.001;
constexpr Seconds kLongestPause = 0.05;

Seconds now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

/// Puts and gets.
RankAnswer ask(Peers& peers, const RankAction& action) {
  RankAnswer answer;
  try {
    if (action.kind == RankAction::Kind::put)
      peers.put(action.key, action.value);
    else
      answer.value = peers.get(action.key);
  } catch (const Error& error) {
    answer.error = error;
  }
  return answer;
}

/// The part of the board that is this group's: the n-th that this rank opens there.
std::unique_ptr<Peers> open_part(Peers& board) {
  return with_prefix(board, fmt::format("{}/", board.add(fmt::format("opened/{}", board.rank()), 1)));
}

}  // namespace

RankGroup::RankGroup(std::unique_ptr<Peers> board, Options options)
    : board_(std::move(board)),
      peers_(open_part(*board_)),
      options_(std::move(options)),
      me_{peers_->rank(), peers_->world(), options_.host},
      hosts_(me_.world) {}

RankGroup::~RankGroup() {
  {
    const std::lock_guard guard(mutex_);
    ending_ = true;
  }
  changed_.notify_all();
  if (thread_.joinable()) thread_.join();
}

std::string RankGroup::describe(std::size_t rank) const {
  return describe_ranks(std::vector<std::size_t>{rank}, hosts_);
}

std::vector<std::string> RankGroup::messages() {
  const std::lock_guard guard(mutex_);
  return std::exchange(messages_, {});
}

// ---- saves and resumes: on the caller's thread

RankGroup::Act RankGroup::do_next(Peers& peers, RankMachine& machine, const Work& work) {
  const RankAction action = machine.next(now());
  switch (action.kind) {
    case RankAction::Kind::wait:
    case RankAction::Kind::end:
      return Act::wait;
    case RankAction::Kind::tell: {
      const std::lock_guard guard(mutex_);
      messages_.push_back(action.value);
      return Act::change;
    }
    case RankAction::Kind::put:
    case RankAction::Kind::get:
      machine.answer(ask(peers, action), now());
      return action.kind == RankAction::Kind::get ? Act::look : Act::change;
    case RankAction::Kind::work:
      machine.answer(work(action), now());
      return Act::change;
  }
  return Act::wait;
}

void RankGroup::pause(Seconds& backoff) {
  if (options_.while_waiting) options_.while_waiting();
  std::this_thread::sleep_for(std::chrono::duration<double>(backoff));
  backoff = std::min(2 * backoff, kLongestPause);
}

void RankGroup::drive(Peers& peers, const std::vector<RankMachine*>& machines, const Work& work,
                      const std::function<bool()>& is_done) {
  Seconds backoff = kShortestPause;
  while (!is_done()) {
    // A machine goes on as far as it can (the leader takes many reports in a row); then all wait for other ranks.
    for (RankMachine* const machine : machines) {
      for (Act act = Act::look; act != Act::wait;) {
        act = do_next(peers, *machine, work);
        if (act == Act::change) backoff = kShortestPause;
      }
    }
    if (!is_done()) pause(backoff);
  }
}

ResumeOutcome RankGroup::resume(const Work& work) {
  const auto peers = with_prefix(*peers_, fmt::format("resume-{}/", ++resumes_));
  ResumeMember member(me_, options_.deadlines, now());
  std::optional<ResumeLeader> leader;
  std::vector<RankMachine*> machines{&member};
  if (me_.rank == kLeader) machines.push_back(&leader.emplace(me_, hosts_, options_.deadlines, now()));
  drive(*peers, machines, work, [&] { return member.outcome() && (!leader || leader->outcome()); });
  ResumeOutcome outcome = *member.outcome();
  if (outcome.error) throw Error(*outcome.error);
  return outcome;
}

SaveOutcome RankGroup::save(std::int64_t step, const std::string& token, const Work& work) {
  SaveMember member(me_, step, last_token_, options_.deadlines, now());
  std::optional<SaveLeader> leader;
  std::vector<RankMachine*> machines{&member};
  if (me_.rank == kLeader) {
    machines.push_back(&leader.emplace(me_, CheckpointId{step, token}, hosts_, options_.deadlines, now()));
  }
  drive(*peers_, machines, work, [&] { return member.outcome() && (!leader || leader->outcome()); });
  return *member.outcome();
}

std::string RankGroup::await(const std::string& key, const std::function<bool(const std::string&)>& is_it,
                             const std::string& what) {
  const Seconds deadline = now() + options_.deadlines.give_up_after;
  for (Seconds backoff = kShortestPause;;) {
    auto value = peers_->get(key);
    if (value && is_it(*value)) return std::move(*value);
    if (now() >= deadline) {
      throw Error(Code::io, fmt::format("{} did not come within {:g} s", what, options_.deadlines.give_up_after));
    }
    pause(backoff);
  }
}

// ---- meetings: on a thread of their own

void RankGroup::watch(std::int64_t step) {
  if (me_.world == 1 || thread_.joinable()) return;
  meet_member_ = std::make_unique<MeetMember>(me_, step, options_.deadlines);
  if (me_.rank == kLeader) meet_leader_ = std::make_unique<MeetLeader>(me_, hosts_, options_.deadlines);
  const SignalsBlocked blocked;
  thread_ = std::thread([this] { look_after_meetings(); });
}

void RankGroup::wish(MeetPurpose purpose, std::string reason) {
  const std::lock_guard guard(mutex_);
  if (meet_member_) meet_member_->wish(purpose, std::move(reason));
  changed_.notify_all();
}

std::optional<Meeting> RankGroup::reached(std::int64_t step) {
  if (!thread_.joinable()) return std::nullopt;
  std::unique_lock lock(mutex_);
  while (true) {
    const MeetMember::Answer answer = meet_member_->reached(step, now());
    waiting_ = answer == MeetMember::Answer::wait;
    if (answer == MeetMember::Answer::meet) return meet_member_->meeting();
    if (answer == MeetMember::Answer::go_on) return std::nullopt;
    changed_.notify_all();
    changed_.wait_for(lock, std::chrono::duration<double>(kLongestPause));
    if (!options_.while_waiting) continue;
    lock.unlock();
    options_.while_waiting();
    lock.lock();
  }
}

void RankGroup::look_after_meetings() {
  std::unique_lock lock(mutex_);
  while (!ending_) {
    bool acted = false;
    for (RankMachine* const machine :
         {static_cast<RankMachine*>(meet_member_.get()), static_cast<RankMachine*>(meet_leader_.get())}) {
      if (machine == nullptr) continue;
      while (!ending_) {
        const RankAction action = machine->next(now());
        if (action.kind == RankAction::Kind::wait || action.kind == RankAction::Kind::end) break;
        acted |= action.kind == RankAction::Kind::put;
        if (action.kind == RankAction::Kind::tell) {
          messages_.push_back(action.value);
          continue;
        }
        lock.unlock();
        const RankAnswer answer = ask(*peers_, action);
        lock.lock();
        machine->answer(answer, now());
      }
    }
    changed_.notify_all();
    const Seconds pause = waiting_ || acted ? kShortestPause : options_.poll;
    if (!ending_) changed_.wait_for(lock, std::chrono::duration<double>(pause));
  }
}

}  // namespace torchkeep
