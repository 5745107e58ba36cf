// SPDX-License-Identifier: BSD-3-Clause
// The leader's part in a save. The order of its states is the protocol: nothing is published before every rank has
// reported and the index is on stable storage, and nothing is told before the name is.
#include <fmt/format.h>

#include <torchkeep/ranks/save.h>

#include "board.h"

namespace torchkeep {

SaveLeader::SaveLeader(RankIdentity me, CheckpointId checkpoint, std::vector<std::string>& hosts,
                       RankDeadlines deadlines, Seconds now)
    : me_(std::move(me)), checkpoint_(std::move(checkpoint)), hosts_(hosts), deadlines_(deadlines), began_(now) {
  hosts_.resize(me_.world);
  verdict_.token = checkpoint_.token;
}

RankAction SaveLeader::work(RankWork what) const {
  RankAction action{.kind = RankAction::Kind::work};
  action.work = what;
  action.checkpoint = checkpoint_;
  if (what == RankWork::take_report) action.report = &report_;
  return action;
}

RankAction SaveLeader::next(Seconds now) {
  if (!tell_.empty()) return {.kind = RankAction::Kind::tell, .value = std::exchange(tell_, {})};
  if (std::exchange(wait_, false)) return {};
  switch (state_) {
    case State::make_folder:
      return work(RankWork::make_folder);
    case State::begin:
      return {
          .kind = RankAction::Kind::put, .key = board::kSave, .value = encode(SaveBegin{checkpoint_, verdict_.why})};
    case State::collect:
      return next_of_collection(now);
    case State::take_report:
      return work(RankWork::take_report);
    case State::write_index:
      return work(RankWork::write_index);
    case State::sync_folder:
      return work(RankWork::sync_folder);
    case State::publish:
      return work(RankWork::publish);
    case State::look:
      return work(RankWork::look);
    case State::sync_parent:
      return work(RankWork::sync_parent);
    case State::verdict:
      return {.kind = RankAction::Kind::put, .key = board::kVerdict, .value = encode(verdict_)};
    case State::discard:
      return work(RankWork::discard);
    case State::end:
      break;
  }
  return {.kind = RankAction::Kind::end};
}

void SaveLeader::answer(const RankAnswer& answer, Seconds now) {
  switch (state_) {
    case State::make_folder:
      // The ranks are told of a failure as of a save that ended when it began.
      if (answer.error) verdict_.why = fmt::format("rank {}: {}", me_.rank, answer.error->what());
      state_ = State::begin;
      return;
    case State::begin:
      began_ = now;
      if (!verdict_.why.empty()) return end();
      return on(answer, State::collect);
    case State::collect:
      return collected(answer, now);
    case State::take_report:
      on(answer, ++next_ == me_.world ? State::write_index : State::collect);
      cursor_ = next_;
      return;
    case State::write_index:
      return on(answer, State::sync_folder);
    case State::sync_folder:
      return on(answer, State::publish);
    case State::publish:
    case State::look:
      return publish_ended(answer);
    case State::sync_parent:
      return parent_synced(answer);
    case State::verdict:
      // Ranks that do not hear it look at the folder.
      if (answer.error) tell_ = fmt::format("the ranks could not be told how the save ended: {}", answer.error->what());
      return verdict_.committed ? end() : on({}, State::discard);
    case State::discard:
      if (answer.error) tell_ = fmt::format("what is left of an abandoned save stays: {}", answer.error->what());
      return end();
    case State::end:
      return;
  }
}

void SaveLeader::on(const RankAnswer& answer, State then) {
  if (answer.error) return abandon(fmt::format("rank {}: {}", me_.rank, answer.error->what()));
  state_ = then;
}

void SaveLeader::end() {
  outcome_ = SaveOutcome{verdict_.committed, checkpoint_, verdict_.why};
  state_ = State::end;
}

void SaveLeader::abandon(std::string why) {
  verdict_.why = std::move(why);
  state_ = State::verdict;
}

// ---- reports

/// One rank is asked for until its report is there, then the next: a get for each report, and one for each wait. Who is
/// missing beside it is found out when it is to be told.
RankAction SaveLeader::next_of_collection(Seconds now) {
  if (asked_ == Asked::failure) return {.kind = RankAction::Kind::get, .key = board::kFailure};
  if (asked_ == Asked::piece) return {.kind = RankAction::Kind::get, .key = board::report_piece(cursor_, piece_)};
  if (cursor_ < me_.world) return {.kind = RankAction::Kind::get, .key = board::report(cursor_)};
  sweep_ended(now);
  return next(now);
}

void SaveLeader::collected(const RankAnswer& answer, Seconds now) {
  if (answer.error) return abandon(fmt::format("rank {}: {}", me_.rank, answer.error->what()));
  if (asked_ == Asked::failure) return failure_found(answer);
  if (!answer.value) return not_there(now);
  const board::Part part = board::read_part(*answer.value);
  if (part.token != checkpoint_.token) return not_there(now);
  if (sweeping_) {
    ++cursor_;
    return;
  }
  if (asked_ == Asked::report) {
    message_.clear();
    pieces_ = part.pieces;
    piece_ = 0;
  }
  message_ += part.bytes;
  asked_ = piece_ < pieces_ ? Asked::piece : Asked::report;
  if (piece_++ == pieces_) take(std::exchange(message_, {}));
}

void SaveLeader::failure_found(const RankAnswer& answer) {
  asked_ = Asked::report;
  if (!answer.value) return;
  const RankReport failure = decode_report(*answer.value);
  if (failure.token != checkpoint_.token) return;
  abandon(fmt::format("rank {} ({}): {}", failure.rank, failure.host, failure.error));
}

void SaveLeader::not_there(Seconds now) {
  asked_ = Asked::report;
  if (sweeping_) {
    missing_.push_back(cursor_++);
    return;
  }
  const Seconds waited = now - began_;
  sweeping_ = waited >= deadlines_.give_up_after || (!warned_ && waited >= deadlines_.warn_after);
  missing_.clear();
  if (sweeping_) return;
  wait_ = true;
  asked_ = Asked::failure;
}

void SaveLeader::sweep_ended(Seconds now) {
  sweeping_ = false;
  cursor_ = next_;
  if (missing_.empty()) return;  // they came meanwhile
  const std::string missing = describe_ranks(missing_, hosts_);
  if (now - began_ >= deadlines_.give_up_after) {
    return abandon(fmt::format("{} did not report within {:g} s", missing, deadlines_.give_up_after));
  }
  warned_ = true;
  tell_ = fmt::format("the save of step {} waits for {} since {:g} s; it is abandoned after {:g} s", checkpoint_.step,
                      missing, now - began_, deadlines_.give_up_after);
}

void SaveLeader::take(std::string_view bytes) {
  report_ = decode_report(bytes);
  hosts_[next_] = report_.host;
  if (!report_.error.empty()) return abandon(fmt::format("rank {} ({}): {}", next_, report_.host, report_.error));
  state_ = State::take_report;
}

// ---- the commit

/// A rename that reports an error may have been done nevertheless: the folder tells.
void SaveLeader::publish_ended(const RankAnswer& answer) {
  if (state_ == State::publish) {
    if (answer.error) publish_error_ = answer.error->what();
    state_ = answer.error ? State::look : State::sync_parent;
    return;
  }
  if (!answer.error && answer.checkpoint == checkpoint_) {
    state_ = State::sync_parent;
    return;
  }
  abandon(fmt::format("rank {}: {}", me_.rank, publish_error_));
}

void SaveLeader::parent_synced(const RankAnswer& answer) {
  verdict_.committed = !answer.error;
  if (answer.error) {
    verdict_.why = fmt::format("the checkpoint is in place, but not safe from a power cut: {}", answer.error->what());
  }
  state_ = State::verdict;
}

}  // namespace torchkeep
