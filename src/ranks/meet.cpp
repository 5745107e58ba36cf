// SPDX-License-Identifier: BSD-3-Clause
// Meetings of ranks at a step.
#include <algorithm>
#include <fmt/format.h>

#include <torchkeep/ranks/meet.h>

#include "board.h"

namespace torchkeep {
namespace {

/// Steps between the furthest rank and the first proposed step: a rank that is a step ahead when it hears still
/// accepts.
constexpr std::int64_t kAhead = 2;

}  // namespace

// ---- a rank

MeetMember::MeetMember(RankIdentity me, std::int64_t step, RankDeadlines deadlines)
    : me_(std::move(me)), step_(step), deadlines_(deadlines) {}

void MeetMember::wish(MeetPurpose purpose, std::string reason) {
  const auto is_same = [&](const auto& other) { return other.purpose == purpose; };
  if (std::any_of(wishes_.begin(), wishes_.end(), is_same)) return;
  if (std::any_of(finals_.begin(), finals_.end(), is_same)) return;
  wishes_.push_back({.round = 0, .purpose = purpose, .reason = std::move(reason)});
}

MeetMember::Answer MeetMember::reached(std::int64_t step, Seconds now) {
  step_ = step;
  if (!finals_.empty() && finals_.front().step == step) {
    meeting_ = finals_.front();
    finals_.pop_front();
    if (accepted_ == step) accepted_.reset();
    waiting_since_.reset();
    return Answer::meet;
  }
  if (accepted_ != step) return Answer::go_on;
  if (!waiting_since_) waiting_since_ = now;
  if (now - *waiting_since_ < 2 * deadlines_.give_up_after) return Answer::wait;
  accepted_.reset();
  waiting_since_.reset();
  return Answer::go_on;
}

RankAction MeetMember::next(Seconds now) {
  (void)now;
  if (std::exchange(wait_, false)) return {};
  if (state_ == State::proposal && !wishes_.empty()) state_ = State::wish;
  switch (state_) {
    case State::wish:
      wishes_.front().round = wished_ + 1;
      return {.kind = RankAction::Kind::put, .key = board::meet_wish(me_.rank), .value = encode(wishes_.front())};
    case State::proposal:
      return {.kind = RankAction::Kind::get, .key = board::kMeet};
    case State::reply:
      // The step may have gone on since the proposal was found: what counts is where the training is now.
      reply_.step = step_;
      reply_.late = reply_.late || (accepted_ && step_ > *accepted_);
      return {.kind = RankAction::Kind::put, .key = board::meet_answer(me_.rank), .value = encode(reply_)};
    case State::final_word:
      break;
  }
  return {.kind = RankAction::Kind::get, .key = board::kMet};
}

void MeetMember::answer(const RankAnswer& answer, Seconds now) {
  (void)now;
  if (answer.error) {
    wait_ = true;  // the board may come back; the meeting has its deadlines
    return;
  }
  switch (state_) {
    case State::wish:
      ++wished_;
      wishes_.erase(wishes_.begin());
      state_ = State::proposal;
      return;
    case State::proposal:
      return proposal_found(answer);
    case State::reply:
      answered_ = reply_.round;
      state_ = State::final_word;
      wait_ = answered_ == final_round_;
      return;
    case State::final_word:
      return final_found(answer);
  }
}

void MeetMember::proposal_found(const RankAnswer& answer) {
  state_ = State::final_word;
  if (!answer.value) return;
  const MeetMessage proposal = decode_meet_message(*answer.value);
  if (proposal.round <= answered_) return;
  reply_ = {.round = proposal.round, .purpose = proposal.purpose, .reason = {}};
  accepted_.reset();
  waiting_since_.reset();
  if (proposal.step != MeetMessage::kNoStep) {
    reply_.late = step_ >= proposal.step;
    if (!reply_.late) accepted_ = proposal.step;  // from here on reached() waits there
  }
  state_ = State::reply;
}

void MeetMember::final_found(const RankAnswer& answer) {
  state_ = State::proposal;
  wait_ = true;
  if (!answer.value) return;
  const MeetMessage word = decode_meet_message(*answer.value);
  if (word.round <= final_round_ || word.round <= answered_) return;
  final_round_ = word.round;
  reply_ = {.round = word.round, .purpose = word.purpose, .reason = {}};
  wait_ = false;
  state_ = State::reply;
  if (word.step == MeetMessage::kNoStep || accepted_ != word.step) {
    accepted_.reset();  // given up
    waiting_since_.reset();
    return;
  }
  finals_.push_back({word.step, word.purpose, word.reason});
}

// ---- the leader

MeetLeader::MeetLeader(RankIdentity me, const std::vector<std::string>& hosts, RankDeadlines deadlines)
    : me_(std::move(me)), hosts_(hosts), deadlines_(deadlines), wishes_done_(me_.world, 0) {}

RankAction MeetLeader::next(Seconds now) {
  (void)now;
  if (!tell_.empty()) return {.kind = RankAction::Kind::tell, .value = std::exchange(tell_, {})};
  if (std::exchange(wait_, false)) return {};
  switch (state_) {
    case State::idle:
      return {.kind = RankAction::Kind::get, .key = board::meet_wish(cursor_)};
    case State::propose:
      return {.kind = RankAction::Kind::put, .key = board::kMeet, .value = encode(proposal_)};
    case State::answers:
    case State::heard:
      return {.kind = RankAction::Kind::get, .key = board::meet_answer(cursor_)};
    case State::final_word:
      break;
  }
  return {.kind = RankAction::Kind::put, .key = board::kMet, .value = encode(proposal_)};
}

void MeetLeader::answer(const RankAnswer& answer, Seconds now) {
  if (answer.error && state_ != State::answers && state_ != State::heard) {
    wait_ = true;
    return;
  }
  switch (state_) {
    case State::idle:
      return wish_found(answer, now);
    case State::propose:
      cursor_ = 0;
      any_late_ = false;
      state_ = State::answers;
      return;
    case State::answers:
    case State::heard:
      return answer_found(answer, now);
    case State::final_word:
      cursor_ = 0;
      began_ = now;
      state_ = State::heard;
      return;
  }
}

/// Every rank has a wish of its own, so that none overwrites another's.
void MeetLeader::wish_found(const RankAnswer& answer, Seconds now) {
  const std::size_t rank = cursor_;
  cursor_ = (cursor_ + 1) % me_.world;
  wait_ = cursor_ == 0;
  if (!answer.value) return;
  const MeetMessage wish = decode_meet_message(*answer.value);
  if (wish.round <= wishes_done_[rank]) return;
  wishes_done_[rank] = wish.round;
  const std::string who = describe_ranks(std::vector<std::size_t>{rank}, hosts_);
  proposal_ = {.round = proposal_.round + 1, .purpose = wish.purpose, .reason = wish.reason + " at " + who};
  began_ = now;
  ahead_ = kAhead;
  wait_ = false;
  state_ = State::propose;
}

void MeetLeader::answer_found(const RankAnswer& answer, Seconds now) {
  if (answer.value && !answer.error) {
    const MeetMessage reply = decode_meet_message(*answer.value);
    if (reply.round == proposal_.round) {
      furthest_ = std::max(furthest_, reply.step);
      any_late_ |= reply.late;
      if (++cursor_ == me_.world) all_answered();
      return;
    }
  }
  if (now - began_ >= deadlines_.give_up_after) {
    const std::string who = describe_ranks(std::vector<std::size_t>{cursor_}, hosts_);
    return give_up(fmt::format("{} did not answer within {:g} s", who, deadlines_.give_up_after));
  }
  wait_ = true;
}

void MeetLeader::all_answered() {
  if (state_ == State::heard) {
    cursor_ = 0;
    state_ = State::idle;
    return;
  }
  if (proposal_.step != MeetMessage::kNoStep && !any_late_) {
    ++proposal_.round;
    furthest_ = proposal_.step;
    state_ = State::final_word;
    return;
  }
  ++proposal_.round;
  proposal_.step = furthest_ + ahead_;
  ahead_ *= 2;  // ranks that make many steps between two looks at the board are caught up with, too
  state_ = State::propose;
}

void MeetLeader::give_up(std::string why) {
  if (state_ == State::heard) {
    cursor_ = 0;
    state_ = State::idle;
    return;
  }
  ++proposal_.round;
  tell_ = fmt::format("the ranks do not meet ({}): {}", proposal_.reason, why);
  proposal_.step = MeetMessage::kNoStep;
  proposal_.reason = std::move(why);
  state_ = State::final_word;
}

}  // namespace torchkeep
