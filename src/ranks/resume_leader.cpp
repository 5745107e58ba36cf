// SPDX-License-Identifier: BSD-3-Clause
// The leader's part in a resume: it lists once for all ranks, and decides only on the word of every rank.
#include <fmt/format.h>
#include <map>

#include <torchkeep/ranks/resume.h>

#include "board.h"

namespace torchkeep {

ResumeLeader::ResumeLeader(RankIdentity me, std::vector<std::string>& hosts, RankDeadlines deadlines, Seconds now)
    : me_(std::move(me)), hosts_(hosts), deadlines_(deadlines), began_(now), there_(me_.world, false) {
  hosts_.assign(me_.world, {});
  choice_.attempt = 1;
  reports_.resize(me_.world);
}

RankAction ResumeLeader::next(Seconds now) {
  if (!tell_.empty()) return {.kind = RankAction::Kind::tell, .value = std::exchange(tell_, {})};
  if (std::exchange(wait_, false)) return {};
  RankAction work{.kind = RankAction::Kind::work};
  switch (state_) {
    case State::hellos:
    case State::reports:
      return next_of_ranks(now);
    case State::list:
      work.work = RankWork::list;
      if (!damaged_.empty()) work.checkpoint = damaged_.back().checkpoint;
      return work;
    case State::choose:
      return {.kind = RankAction::Kind::put, .key = board::kResume, .value = encode(choice_)};
    case State::quarantine:
      work.work = RankWork::quarantine;
      work.checkpoint = damaged_[to_quarantine_].checkpoint;
      return work;
    case State::sync:
      work.work = RankWork::sync_parent;
      work.checkpoint = damaged_.front().checkpoint;
      return work;
    case State::verdict:
      return {.kind = RankAction::Kind::put, .key = board::kResumed, .value = encode(verdict_)};
    case State::end:
      break;
  }
  return {.kind = RankAction::Kind::end};
}

void ResumeLeader::answer(const RankAnswer& answer, Seconds now) {
  switch (state_) {
    case State::hellos:
    case State::reports:
      return heard(answer, now);
    case State::list:
      return listed(answer);
    case State::choose:
      if (answer.error) return finish(*answer.error);
      if (!choice_.error.empty()) return finish(Error(choice_.code, choice_.error));
      there_.assign(me_.world, false);
      count_ = cursor_ = 0;
      began_ = now;
      warned_ = false;
      state_ = State::reports;
      return;
    case State::quarantine:
      if (answer.error) tell_ = fmt::format("a damaged checkpoint stays where it is: {}", answer.error->what());
      if (++to_quarantine_ == damaged_.size()) state_ = State::sync;
      return;
    case State::sync:
      if (answer.error) tell_ = answer.error->what();
      state_ = State::verdict;
      return;
    case State::verdict:
      return told(answer);
    case State::end:
      return;
  }
}

// ---- the word of every rank

RankAction ResumeLeader::next_of_ranks(Seconds now) {
  while (cursor_ < me_.world && there_[cursor_]) ++cursor_;
  if (cursor_ < me_.world) {
    const std::string key = state_ == State::hellos ? board::hello(cursor_) : board::loaded(cursor_);
    return {.kind = RankAction::Kind::get, .key = key};
  }
  if (count_ == me_.world)
    all_are_there();
  else
    sweep_ended(now);
  return next(now);
}

void ResumeLeader::heard(const RankAnswer& answer, Seconds now) {
  if (answer.error) return finish(*answer.error);
  if (answer.value && take(*answer.value)) {
    there_[cursor_] = true;
    ++count_;
    return;
  }
  if (state_ != State::hellos && state_ != State::reports) return;
  if (sweeping_) {
    ++cursor_;
    return;
  }
  const Seconds waited = now - began_;
  sweeping_ = waited >= deadlines_.give_up_after || (!warned_ && waited >= deadlines_.warn_after);
  wait_ = !sweeping_;
}

bool ResumeLeader::take(const std::string& value) {
  if (state_ == State::hellos) {
    const Hello hello = decode_hello(value);
    hosts_[cursor_] = hello.host;
    if (hello.world == me_.world) return true;
    refuse(fmt::format("rank {} ({}) belongs to a training of {} ranks, rank {} ({}) to one of {}", cursor_, hello.host,
                       hello.world, me_.rank, me_.host, me_.world));
    return false;
  }
  ResumeReport report = decode_resume_report(value);
  if (report.attempt != choice_.attempt) return false;
  reports_[cursor_] = std::move(report);
  return true;
}

void ResumeLeader::sweep_ended(Seconds now) {
  sweeping_ = false;
  cursor_ = 0;
  std::vector<std::size_t> ranks;
  for (std::size_t rank = 0; rank < me_.world; ++rank) {
    if (!there_[rank]) ranks.push_back(rank);
  }
  const std::string missing = describe_ranks(ranks, hosts_);
  if (now - began_ >= deadlines_.give_up_after) {
    return refuse(fmt::format("{} did not answer within {:g} s", missing, deadlines_.give_up_after), Code::io);
  }
  warned_ = true;
  tell_ = fmt::format("the resume waits for {} since {:g} s; it ends with an error after {:g} s", missing, now - began_,
                      deadlines_.give_up_after);
}

void ResumeLeader::all_are_there() {
  if (state_ == State::hellos)
    state_ = State::list;
  else
    decide();
}

// ---- decisions

void ResumeLeader::listed(const RankAnswer& answer) {
  if (answer.error) return refuse(fmt::format("rank {}: {}", me_.rank, answer.error->what()), answer.error->code());
  if (!answer.checkpoint && !damaged_.empty())
    return refuse(with_damaged("no checkpoint is good on all ranks"), Code::corrupt);
  choice_.checkpoint = answer.checkpoint;
  state_ = State::choose;
}

/// An error for all ranks, whatever they wait for.
void ResumeLeader::refuse(std::string why, Code code) {
  if (state_ == State::reports) {
    verdict_ = {.attempt = choice_.attempt, .kind = ResumeVerdict::Kind::failed, .why = std::move(why), .code = code};
    state_ = State::verdict;
    return;
  }
  choice_.error = std::move(why);
  choice_.code = code;
  state_ = State::choose;
}

void ResumeLeader::decide() {
  std::string damage, failure;
  bool another = false;
  for (std::size_t rank = 0; rank < me_.world; ++rank) {
    const ResumeReport& report = reports_[rank];
    const std::string who = fmt::format("{}: ", describe_ranks(std::vector<std::size_t>{rank}, hosts_));
    another |= report.kind == ResumeReport::Kind::another;
    if (report.kind == ResumeReport::Kind::damaged) damage += (damage.empty() ? "" : "; ") + who + report.what;
    if (report.kind == ResumeReport::Kind::failed && failure.empty()) failure = who + report.what;
  }
  if (another) return refuse(what_they_found());
  if (!failure.empty()) return refuse(failure);
  verdict_ = {.attempt = choice_.attempt, .kind = ResumeVerdict::Kind::good, .why = {}};
  state_ = damaged_.empty() ? State::verdict : State::quarantine;
  if (damage.empty()) return;
  verdict_.kind = ResumeVerdict::Kind::older;
  verdict_.why = damage;
  state_ = State::verdict;
}

std::string ResumeLeader::what_they_found() const {
  const auto in_words = [](const std::optional<CheckpointId>& id) {
    return id ? fmt::format("step {}, save {}", id->step, id->token) : std::string("none");
  };
  std::map<std::string, std::vector<std::size_t>> groups;
  for (std::size_t rank = 0; rank < me_.world; ++rank) {
    const ResumeReport& report = reports_[rank];
    const bool other = report.kind == ResumeReport::Kind::another;
    groups[in_words(other ? report.found : choice_.checkpoint)].push_back(rank);
  }
  std::string list;
  for (const auto& [what, ranks] : groups) {
    list += fmt::format("{}{}: {}", list.empty() ? "" : "; ", describe_ranks(ranks, hosts_), what);
  }
  return fmt::format(
      "the ranks find different newest checkpoints: {}; is the run's folder on a file system that all of them share?",
      list);
}

std::string ResumeLeader::with_damaged(std::string message) const {
  for (const ResumeOutcome::Damaged& one : damaged_) {
    message += fmt::format("; step {}: {}", one.checkpoint.step, one.why);
  }
  return message;
}

void ResumeLeader::told(const RankAnswer& answer) {
  if (answer.error) return finish(*answer.error);
  if (verdict_.kind == ResumeVerdict::Kind::failed) return finish(Error(verdict_.code, verdict_.why));
  if (verdict_.kind == ResumeVerdict::Kind::good) {
    outcome_ = ResumeOutcome{.checkpoint = choice_.checkpoint, .damaged = damaged_};
    state_ = State::end;
    return;
  }
  damaged_.push_back({*choice_.checkpoint, verdict_.why});
  ++choice_.attempt;
  state_ = State::list;
}

void ResumeLeader::finish(Error error) {
  outcome_ = ResumeOutcome{.damaged = damaged_, .error = std::move(error)};
  state_ = State::end;
}

}  // namespace torchkeep
