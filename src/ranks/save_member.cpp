// SPDX-License-Identifier: BSD-3-Clause
// One rank's part in a save. The order of a member's states is the protocol: a report is the promise that its bytes are
// on stable storage and are the state of the step.
#include <fmt/format.h>

#include <torchkeep/ranks/save.h>

#include "board.h"

namespace torchkeep {
namespace {

constexpr int kBoardFailures = 5;  // in a row: then there is no board any more

}  // namespace

SaveMember::SaveMember(RankIdentity me, std::int64_t step, std::string& last_token, RankDeadlines deadlines,
                       Seconds now)
    : me_(std::move(me)),
      step_(step),
      last_token_(last_token),
      deadlines_(deadlines),
      deadline_(now + deadlines.give_up_after) {
  checkpoint_.step = step;
}

RankAction SaveMember::work(RankWork what) const {
  RankAction action{.kind = RankAction::Kind::work};
  action.work = what;
  action.checkpoint = checkpoint_;
  return action;
}

RankAction SaveMember::next(Seconds now) {
  (void)now;
  if (std::exchange(wait_, false)) return {};
  switch (state_) {
    case State::await_begin:
    case State::await_next:
      return {.kind = RankAction::Kind::get, .key = board::kSave};
    case State::write:
      return work(RankWork::write_share);
    case State::sync:
      return work(RankWork::sync_folder);
    case State::confirm:
      return work(RankWork::confirm_share);
    case State::report:
      return {.kind = RankAction::Kind::put, .key = outbox_.back().first, .value = outbox_.back().second};
    case State::await_verdict:
      return {.kind = RankAction::Kind::get, .key = board::kVerdict};
    case State::look:
      return work(RankWork::look);
    case State::settle:
      return work(RankWork::sync_parent);
    case State::end:
      break;
  }
  return {.kind = RankAction::Kind::end};
}

void SaveMember::answer(const RankAnswer& answer, Seconds now) {
  switch (state_) {
    case State::await_begin:
      return begin_found(answer, now);
    case State::write:
      return written(answer);
    case State::sync:
      return part_done(answer, State::confirm);
    case State::confirm:
      return part_done(answer, State::report);
    case State::report:
      return reported(answer, now);
    case State::await_verdict:
      return verdict_found(answer);
    case State::await_next:
      return next_found(answer, now);
    case State::look:
      return looked(answer);
    case State::settle:
      return settled(answer);
    case State::end:
      return;
  }
}

bool SaveMember::is_board_gone(const RankAnswer& answer) {
  failures_ = answer.error ? failures_ + 1 : 0;
  return failures_ >= kBoardFailures;
}

void SaveMember::begin_found(const RankAnswer& answer, Seconds now) {
  if (is_board_gone(answer)) return finish(false, fmt::format("no word of the leader: {}", answer.error->what()));
  if (answer.value) {
    const SaveBegin begin = decode_save_begin(*answer.value);
    if (begin.checkpoint.token != last_token_ && begin.checkpoint.step >= step_) return join(begin);
  }
  if (now >= deadline_) {
    return finish(false, fmt::format("rank {} (the leader) did not begin the save of step {} within {:g} s", kLeader,
                                     step_, deadlines_.give_up_after));
  }
  wait_ = true;
}

void SaveMember::join(const SaveBegin& begin) {
  if (begin.checkpoint.step > step_) {
    return finish(false,
                  fmt::format("the leader saves step {} already; rank {} came late", begin.checkpoint.step, me_.rank));
  }
  checkpoint_ = begin.checkpoint;
  last_token_ = checkpoint_.token;
  if (!begin.error.empty()) return finish(false, begin.error);
  report_.rank = me_.rank;
  report_.token = checkpoint_.token;
  report_.host = me_.host;
  state_ = State::write;
}

void SaveMember::written(const RankAnswer& answer) {
  report_.list = answer.value.value_or("");
  part_done(answer, State::sync);
}

void SaveMember::part_done(const RankAnswer& answer, State then) {
  if (answer.error) report_.error = answer.error->what();
  state_ = answer.error ? State::report : then;
  if (state_ == State::report) fill_outbox();
}

void SaveMember::fill_outbox() {
  const std::vector<std::string> values = board::split(report_.token, encode(report_));
  // The last first: pieces, then the head, which says that they are there. An error is told where the leader looks
  // at once.
  outbox_.clear();
  outbox_.emplace_back(board::report(me_.rank), values[0]);
  for (std::size_t i = 1; i < values.size(); ++i) outbox_.emplace_back(board::report_piece(me_.rank, i), values[i]);
  if (report_.error.empty()) return;
  const RankReport failure{.rank = me_.rank, .token = report_.token, .host = me_.host, .error = report_.error};
  outbox_.emplace_back(board::kFailure, encode(failure));
}

void SaveMember::reported(const RankAnswer& answer, Seconds now) {
  if (is_board_gone(answer)) return doubt(fmt::format("could not report to the leader: {}", answer.error->what()));
  if (answer.error) {
    wait_ = true;
    return;
  }
  outbox_.pop_back();
  if (!outbox_.empty()) return;
  // The leader waits as long for the last rank, and writes the index after it.
  deadline_ = now + 2 * deadlines_.give_up_after;
  state_ = State::await_verdict;
}

void SaveMember::verdict_found(const RankAnswer& answer) {
  if (is_board_gone(answer)) return doubt(fmt::format("no verdict of the leader: {}", answer.error->what()));
  if (answer.value) {
    const SaveVerdict verdict = decode_save_verdict(*answer.value);
    if (verdict.token == checkpoint_.token) return finish(verdict.committed, verdict.why);
  }
  state_ = State::await_next;
}

void SaveMember::next_found(const RankAnswer& answer, Seconds now) {
  if (is_board_gone(answer)) return doubt(fmt::format("no verdict of the leader: {}", answer.error->what()));
  if (answer.value && decode_save_begin(*answer.value).checkpoint.token != checkpoint_.token) {
    return doubt("the leader has begun another save, and its verdict on this one was missed");
  }
  if (now >= deadline_) {
    return doubt(
        fmt::format("no verdict of rank {} (the leader) within {:g} s", kLeader, 2 * deadlines_.give_up_after));
  }
  state_ = State::await_verdict;
  wait_ = true;
}

void SaveMember::doubt(std::string why) {
  doubt_ = std::move(why);
  state_ = State::look;
}

void SaveMember::looked(const RankAnswer& answer) {
  if (answer.error) return finish(false, fmt::format("{}; {}", doubt_, answer.error->what()));
  if (answer.checkpoint != checkpoint_) return finish(false, fmt::format("{}; it is not published", doubt_));
  state_ = State::settle;
}

/// The leader may have died between the rename and its sync.
void SaveMember::settled(const RankAnswer& answer) {
  if (answer.error) return finish(false, fmt::format("{}; {}", doubt_, answer.error->what()));
  finish(true, {});
}

void SaveMember::finish(bool committed, std::string why) {
  outcome_ = SaveOutcome{committed, checkpoint_, std::move(why)};
  state_ = State::end;
}

}  // namespace torchkeep
