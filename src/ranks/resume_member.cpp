// SPDX-License-Identifier: BSD-3-Clause
// One rank's part in a resume.
#include <cerrno>
#include <fmt/format.h>

#include <torchkeep/ranks/resume.h>

#include "board.h"

namespace torchkeep {
namespace {

constexpr int kBoardFailures = 5;  // in a row

}  // namespace

bool is_rank_damage(const Error& error) noexcept {
  return error.code() == Code::corrupt || (error.code() == Code::io && error.system_error() == EIO);
}

ResumeMember::ResumeMember(RankIdentity me, RankDeadlines deadlines, Seconds now)
    : me_(std::move(me)), deadlines_(deadlines), deadline_(now + 2 * deadlines.give_up_after) {}

RankAction ResumeMember::next(Seconds now) {
  (void)now;
  if (std::exchange(wait_, false)) return {};
  RankAction work{.kind = RankAction::Kind::work};
  work.checkpoint = choice_;
  switch (state_) {
    case State::hello:
      return {
          .kind = RankAction::Kind::put, .key = board::hello(me_.rank), .value = encode(Hello{me_.host, me_.world})};
    case State::await_choice:
      return {.kind = RankAction::Kind::get, .key = board::kResume};
    case State::find:
      work.work = RankWork::find;
      return work;
    case State::load:
      work.work = RankWork::load;
      return work;
    case State::report:
      return {.kind = RankAction::Kind::put, .key = board::loaded(me_.rank), .value = encode(report_)};
    case State::await_verdict:
      return {.kind = RankAction::Kind::get, .key = board::kResumed};
    case State::end:
      break;
  }
  return {.kind = RankAction::Kind::end};
}

void ResumeMember::answer(const RankAnswer& answer, Seconds now) {
  switch (state_) {
    case State::hello:
    case State::report:
      if (answer.error) return poll(answer, now, "an answer");
      failures_ = 0;
      deadline_ = now + 2 * deadlines_.give_up_after;
      state_ = state_ == State::hello ? State::await_choice : State::await_verdict;
      return;
    case State::await_choice:
      return choice_found(answer, now);
    case State::find:
      return found(answer);
    case State::load:
      return loaded(answer);
    case State::await_verdict:
      return verdict_found(answer, now);
    case State::end:
      return;
  }
}

/// Nothing new on the board: waits, unless it waited long enough.
void ResumeMember::poll(const RankAnswer& answer, Seconds now, const char* what) {
  failures_ = answer.error ? failures_ + 1 : 0;
  if (failures_ >= kBoardFailures) return fail(*answer.error);
  if (now >= deadline_) {
    return fail(Error(Code::io, fmt::format("rank {}: no {} of rank {} (the leader) within {:g} s", me_.rank, what,
                                            kLeader, 2 * deadlines_.give_up_after)));
  }
  wait_ = true;
}

void ResumeMember::choice_found(const RankAnswer& answer, Seconds now) {
  if (!answer.value) return poll(answer, now, "choice of a checkpoint");
  const ResumeChoice choice = decode_resume_choice(*answer.value);
  if (choice.attempt != attempt_) return poll(answer, now, "choice of a checkpoint");
  if (!choice.error.empty()) return fail(Error(choice.code, choice.error));
  choice_ = choice.checkpoint;
  report_ = ResumeReport{.attempt = attempt_, .what = {}};
  own_error_.reset();
  state_ = choice_ ? State::load : State::find;
}

/// A rank must see what the leader sees, be it nothing.
void ResumeMember::found(const RankAnswer& answer) {
  state_ = State::report;
  if (answer.error) {
    own_error_ = answer.error;
    report_.kind = ResumeReport::Kind::failed;
    report_.what = answer.error->what();
  } else if (answer.checkpoint != choice_) {
    report_.kind = ResumeReport::Kind::another;
    report_.found = answer.checkpoint;
  } else if (own_error_) {
    report_.kind = ResumeReport::Kind::damaged;  // the folder is the leader's, and a file of it is missing
    report_.what = own_error_->what();
  }
}

void ResumeMember::loaded(const RankAnswer& answer) {
  state_ = State::report;
  if (!answer.error) return;
  own_error_ = answer.error;
  if (answer.error->code() == Code::not_found) {
    state_ = State::find;  // it sees another folder than the leader
    return;
  }
  report_.kind = is_rank_damage(*answer.error) ? ResumeReport::Kind::damaged : ResumeReport::Kind::failed;
  report_.what = answer.error->what();
}

void ResumeMember::verdict_found(const RankAnswer& answer, Seconds now) {
  if (!answer.value) return poll(answer, now, "verdict");
  const ResumeVerdict verdict = decode_resume_verdict(*answer.value);
  if (verdict.attempt != attempt_) return poll(answer, now, "verdict");
  if (verdict.kind == ResumeVerdict::Kind::failed) {
    const bool mine = own_error_ && report_.kind == ResumeReport::Kind::failed;
    return fail(mine ? *own_error_ : Error(verdict.code, verdict.why));
  }
  if (verdict.kind == ResumeVerdict::Kind::older) {
    damaged_.push_back({*choice_, verdict.why});
    ++attempt_;
    deadline_ = now + 2 * deadlines_.give_up_after;
    state_ = State::await_choice;
    return;
  }
  outcome_ = ResumeOutcome{.checkpoint = choice_, .damaged = damaged_};
  state_ = State::end;
}

void ResumeMember::fail(Error error) {
  outcome_ = ResumeOutcome{.damaged = damaged_, .error = std::move(error)};
  state_ = State::end;
}

}  // namespace torchkeep
