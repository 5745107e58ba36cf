// SPDX-License-Identifier: BSD-3-Clause
#include "ranks/simulation.h"

#include <algorithm>
#include <sstream>
#include <utility>

#include <torchkeep/base/crc32.h>

#include "support/whole_file.h"

namespace torchkeep::testing {
namespace {

const std::string kRun = "/run";

Where at_path(const std::string& path) {
  Where where;
  where.file = path;
  return where;
}

[[noreturn]] void damaged(const std::string& path, const std::string& what) {
  throw Error(Code::corrupt, what, at_path(path));
}

}  // namespace

// ---- a process's view of the disk

Fs& ProcessFs::as_client() {
  crash_.act_as(client_);
  return crash_.fs();
}

void ProcessFs::change() {
  if (++calls_ >= die_at_) throw Killed();
  crash_.act_as(client_);
}

class ProcessFs::OpenFile final : public File {
 public:
  OpenFile(ProcessFs& fs, std::unique_ptr<File> file) : fs_(fs), file_(std::move(file)) {}
  void write_at(std::uint64_t offset, Bytes bytes) override {
    try {
      fs_.change();
    } catch (const Killed&) {
      file_->write_at(offset, bytes.first(bytes.size() / 2));
      throw;
    }
    file_->write_at(offset, bytes);
  }
  bool reserve(std::uint64_t size) override { return file_->reserve(size); }
  void sync() override {
    fs_.change();
    if (fs_.mutant() == Mutant::no_file_sync && path().find("share") != std::string::npos) return;
    file_->sync();
  }
  void close() override { file_->close(); }
  const std::string& path() const noexcept override { return file_->path(); }

 private:
  ProcessFs& fs_;
  std::unique_ptr<File> file_;
};

std::string ProcessFs::real(const std::string& path) const {
  for (const auto& [name, folder] : in_place_) {
    if (path.starts_with(name)) return folder + path.substr(name.size());
  }
  return path;
}

std::unique_ptr<File> ProcessFs::create(const std::string& path, const CreateOptions& options) {
  change();
  return std::make_unique<OpenFile>(*this, as_client().create(path, options));
}

void ProcessFs::rename(const std::string& from, const std::string& to) {
  change();
  // A leftover is to be removed under the name it has.
  if (mutant_ == Mutant::removed_in_place && to.ends_with(".removed") && from.find("/.") != std::string::npos) {
    if (!as_client().status(from)) throw Error(Code::not_found, "no such folder", at_path(from));
    in_place_[to] = from;
    return;
  }
  as_client().rename(from, to);
}

void ProcessFs::remove(const std::string& path) {
  change();
  as_client().remove(real(path));
}

void ProcessFs::remove_directory(const std::string& path) {
  change();
  as_client().remove_directory(real(path));
}

void ProcessFs::sync_directory(const std::string& path) {
  change();
  const bool parent = path == kRun + "/";
  if (mutant_ == Mutant::no_folder_sync && !parent) return;
  if (mutant_ == Mutant::no_parent_sync && parent) return;
  as_client().sync_directory(path);
}

bool ProcessFs::make_directory(const std::string& path) {
  change();
  return as_client().make_directory(path);
}

// ---- checkpoints

namespace {

std::string share_name(std::size_t rank) {
  return "share-" + std::to_string(rank);
}

std::uint32_t crc(const std::string& bytes) {
  return crc32(as_bytes(bytes));
}

}  // namespace

std::string FakeShares::content_of(std::size_t rank, const CheckpointId& checkpoint) {
  return checkpoint.token + " rank " + std::to_string(rank) + " step " + std::to_string(checkpoint.step) + "\n";
}

std::string FakeShares::list_of(std::size_t rank, const CheckpointId& checkpoint) {
  return share_name(rank) + " " + std::to_string(crc(content_of(rank, checkpoint))) + "\n";
}

void FakeShares::write(const std::string& path, const std::string& bytes, bool late) {
  const auto file = fs_.create(path, {});
  if (late) file->sync();
  const std::size_t half = bytes.size() / 2;
  file->write_at(0, as_bytes(bytes.substr(0, half)));
  file->write_at(half, as_bytes(bytes.substr(half)));
  if (!late) file->sync();
  file->close();
}

std::string FakeShares::write_share(const std::string& folder, const CheckpointId& checkpoint) {
  write(folder + "/" + share_name(rank_), content_of(rank_, checkpoint), false);
  return list_of(rank_, checkpoint);
}

void FakeShares::take_report(const CheckpointId& checkpoint, const RankReport& report) {
  if (report.rank == 0) index_ = checkpoint.token + "\n";
  index_ += report.list;
}

void FakeShares::write_index(const std::string& folder, const CheckpointId&) {
  index_ += std::to_string(crc(index_)) + "\n";
  write(folder + "/manifest", index_, false);
  write(folder + "/.metadata", index_, sync_before_writing);
}

std::vector<std::string> FakeShares::read_index(const std::string& folder) {
  if (!fs_.status(folder)) throw Error(Code::not_found, "there is no such checkpoint", at_path(folder));
  std::string index;
  for (const char* const name : {"/manifest", "/.metadata"}) {
    const std::string path = folder + name;
    if (!fs_.status(path)) damaged(path, "the index is missing");
    const std::string found = read_file(fs_, path);
    if (!index.empty() && index != found) damaged(path, "the index has two versions");
    index = found;
  }
  std::vector<std::string> lines;
  std::istringstream stream(index);
  for (std::string line; std::getline(stream, line);) lines.push_back(line);
  if (lines.size() < 2 || !index.ends_with('\n')) damaged(folder, "the index is cut");
  const std::string sum = lines.back() + "\n";
  lines.pop_back();
  if (std::to_string(crc(index.substr(0, index.size() - sum.size()))) + "\n" != sum) damaged(folder, "index CRC-32");
  return lines;
}

std::string FakeShares::token_of(const std::string& folder) {
  return read_index(folder).front();
}

void FakeShares::load(const std::string& folder, const CheckpointId& checkpoint) {
  const std::vector<std::string> lines = read_index(folder);
  if (lines.front() != checkpoint.token) throw Error(Code::not_found, "of another save", at_path(folder));
  if (lines.size() != world_ + 1) damaged(folder, "the index names another number of files");
  const std::string path = folder + "/" + share_name(rank_);
  if (!fs_.status(path)) damaged(path, "missing");
  const std::string content = read_file(fs_, path);
  if (lines[rank_ + 1] != share_name(rank_) + " " + std::to_string(crc(content))) damaged(path, "CRC-32");
  if (content != content_of(rank_, checkpoint)) damaged(path, "of another save");
}

// ---- the board

void SlowBoard::put(std::size_t rank, const std::string& key, const std::string& value, Seconds now) {
  if (loses_verdicts_ && key == "verdict") return;
  const unsigned draw = delays_ ? static_cast<unsigned>(random_() % 8) : 0;
  entries_[key].push_back({value, rank, now + (draw < 5 ? 0 : draw == 5 ? 1 : draw == 6 ? 4 : 12)});
  if (entries_[key].size() > 8) entries_[key].erase(entries_[key].begin());
}

std::optional<std::string> SlowBoard::get(std::size_t rank, const std::string& key, Seconds now) const {
  const auto found = entries_.find(key);
  if (found == entries_.end()) return std::nullopt;
  for (auto entry = found->second.rbegin(); entry != found->second.rend(); ++entry) {
    if (entry->writer == rank || entry->visible <= now) return entry->value;
  }
  return std::nullopt;
}

// ---- processes

namespace {

constexpr RankDeadlines kDeadlines{.warn_after = 5, .give_up_after = 40};

/// A rank reports before its bytes are where it says they are.
class EarlyReport final : public RankMachine {
 public:
  EarlyReport(std::unique_ptr<SaveMember> inner, std::size_t rank) : inner_(std::move(inner)), rank_(rank) {}
  RankAction next(Seconds now) override {
    while (true) {
      if (reported_ && !postponed_.empty()) {
        RankAction action = postponed_.front();
        postponed_.erase(postponed_.begin());
        own_ = false;
        return action;
      }
      own_ = true;
      RankAction action = inner_->next(now);
      const bool writes = action.kind == RankAction::Kind::work &&
                          (action.work == RankWork::write_share || action.work == RankWork::sync_folder);
      if (!writes) {
        reported_ |= action.kind == RankAction::Kind::put;
        return action;
      }
      postponed_.push_back(action);
      RankAnswer answer;
      answer.value = FakeShares::list_of(rank_, *action.checkpoint);
      inner_->answer(answer, now);
    }
  }
  void answer(const RankAnswer& answer, Seconds now) override {
    if (own_) inner_->answer(answer, now);
  }

 private:
  std::unique_ptr<SaveMember> inner_;
  std::size_t rank_;
  std::vector<RankAction> postponed_;
  bool reported_ = false;
  bool own_ = true;
};

/// Tells the ranks before the rename.
class EarlyVerdict final : public RankMachine {
 public:
  EarlyVerdict(std::unique_ptr<SaveLeader> inner, CheckpointId id) : inner_(std::move(inner)), id_(std::move(id)) {}
  RankAction next(Seconds now) override {
    if (held_ && told_) return *std::exchange(held_, std::nullopt);
    RankAction action = inner_->next(now);
    if (action.kind != RankAction::Kind::work || action.work != RankWork::publish) return action;
    held_ = std::move(action);
    told_ = true;
    return {.kind = RankAction::Kind::put,
            .key = "verdict",
            .value = encode(SaveVerdict{.token = id_.token, .committed = true, .why = {}})};
  }
  void answer(const RankAnswer& answer, Seconds now) override {
    if (!held_) inner_->answer(answer, now);
  }

 private:
  std::unique_ptr<SaveLeader> inner_;
  CheckpointId id_;
  std::optional<RankAction> held_;
  bool told_ = false;
};

/// What a process did in its turn. Time goes on when all of them only wait and look.
enum class Act { change, look, wait };

/// One process: first a resume, then a save at each step of the scenario.
class Process {
 public:
  struct Place {
    std::size_t job;
    std::size_t rank;
    bool only_leads;  ///< a second leader: has no share of its own
  };
  Process(const RankScenario& scenario, CrashFs& crash, SlowBoard& board, Place place, int client)
      : scenario_(scenario),
        crash_(crash),
        board_(board),
        place_(place),
        me_{place.rank, scenario.world, "n" + std::to_string(place.rank / 2)},
        fs_(crash, client, scenario.mutant),
        shares_(fs_, place.rank, scenario.world),
        folder_(fs_, kRun, shares_) {
    shares_.sync_before_writing = scenario.mutant == Mutant::index_before_sync;
  }

  ProcessFs& fs() { return fs_; }
  bool alive() const { return alive_ && !done_; }
  bool leads() const { return place_.rank == kLeader; }
  void kill() { alive_ = false; }
  const std::optional<ResumeOutcome>& resumed() const { return resumed_; }

  /// Does one thing.
  Act act(Seconds now, RankRun& run) {
    if (machines_.empty()) begin(now);
    if (!alive()) return Act::change;
    const std::size_t which = turn_++ % machines_.size();
    try {
      return act(*machines_[which], now, run);
    } catch (const Killed&) {
      alive_ = false;
      return Act::change;
    }
  }

 private:
  /// The next part of the program.
  void begin(Seconds now) {
    if (!resuming_ && !resumed_ && !place_.only_leads) {
      resuming_ = true;
      try {
        if (leads()) folder_.remove_leftovers();
      } catch (const Killed&) {
        alive_ = false;
        return;
      } catch (const Error&) {
        // Another job removes them at the same time.
      }
      auto member = std::make_unique<ResumeMember>(me_, kDeadlines, now);
      resume_member_ = member.get();
      machines_.push_back(std::move(member));
      if (leads()) machines_.push_back(std::make_unique<ResumeLeader>(me_, hosts_, kDeadlines, now));
      return;
    }
    while (next_save_ < scenario_.saves.size() && scenario_.saves[next_save_] <= begun_at()) ++next_save_;
    if (next_save_ == scenario_.saves.size() || scenario_.hanging_rank == place_.rank) {
      done_ = true;
      return;
    }
    begin_save(scenario_.saves[next_save_++], now);
  }

  std::int64_t begun_at() const { return resumed_ && resumed_->checkpoint ? resumed_->checkpoint->step : 0; }

  void begin_save(std::int64_t step, Seconds now) {
    if (!place_.only_leads) {
      auto member = std::make_unique<SaveMember>(me_, step, last_token_, kDeadlines, now);
      save_member_ = member.get();
      if (scenario_.mutant == Mutant::report_before_sync)
        machines_.push_back(std::make_unique<EarlyReport>(std::move(member), me_.rank));
      else
        machines_.push_back(std::move(member));
    }
    if (!leads()) return;
    CheckpointId id{step, std::string(place_.only_leads ? "extra" : "job") + std::to_string(place_.job) + "t" +
                              std::to_string(step)};
    RankIdentity leader = me_;
    if (scenario_.mutant == Mutant::smaller_quorum) --leader.world;
    auto machine = std::make_unique<SaveLeader>(leader, id, hosts_, kDeadlines, now);
    save_leader_ = machine.get();
    if (scenario_.mutant == Mutant::verdict_before_rename)
      machines_.push_back(std::make_unique<EarlyVerdict>(std::move(machine), id));
    else
      machines_.push_back(std::move(machine));
  }

  Act act(RankMachine& machine, Seconds now, RankRun& run) {
    const RankAction action = machine.next(now);
    switch (action.kind) {
      case RankAction::Kind::wait:
        return Act::wait;
      case RankAction::Kind::tell:
        run.told.push_back(action.value);
        return Act::change;
      case RankAction::Kind::end:
        return end_of_part(run) ? Act::change : Act::wait;
      case RankAction::Kind::put:
        board_.put(place_.rank, action.key, action.value, now);
        machine.answer({}, now);
        return Act::change;
      case RankAction::Kind::get: {
        RankAnswer answer;
        answer.value = board_.get(place_.rank, action.key, now);
        machine.answer(answer, now);
        return Act::look;
      }
      case RankAction::Kind::work:
        machine.answer(work(action), now);
        return Act::change;
    }
    return Act::wait;
  }

  RankAnswer work(const RankAction& action) {
    if (action.work == RankWork::write_share && scenario_.failing_rank == place_.rank) {
      RankAnswer answer;
      answer.error = Error::from_errno(ENOSPC, "write");
      return answer;
    }
    return folder_.perform(action);
  }

  /// A machine ended: notes its outcome once all of this part did.
  bool end_of_part(RankRun& run) {
    const bool resume_ended = resume_member_ == nullptr || resume_member_->outcome();
    const bool member_ended = save_member_ == nullptr || save_member_->outcome();
    const bool leader_ended = save_leader_ == nullptr || save_leader_->outcome();
    if (!resume_ended || !member_ended || !leader_ended) return false;
    if (resume_member_ != nullptr) take(*resume_member_->outcome());
    if (save_member_ != nullptr) take(*save_member_->outcome(), run);
    if (save_leader_ != nullptr && save_leader_->outcome()->committed) {
      if (place_.only_leads) take(*save_leader_->outcome(), run);
      retain(save_leader_->outcome()->checkpoint.step);
    }
    resume_member_ = nullptr;
    save_member_ = nullptr;
    save_leader_ = nullptr;
    machines_.clear();
    return true;
  }

  void take(const ResumeOutcome& outcome) {
    resumed_ = outcome;
    resuming_ = false;
    done_ = outcome.error.has_value();
  }

  void take(const SaveOutcome& outcome, RankRun& run) {
    if (!outcome.committed) {
      run.abandoned.push_back(outcome.why);
      return;
    }
    if (run.committed.empty() || outcome.checkpoint.step > *run.committed.rbegin()) {
      crash_.acknowledge(static_cast<int>(outcome.checkpoint.step));
    }
    run.committed.insert(outcome.checkpoint.step);
  }

  void retain(std::int64_t newest) {
    std::vector<std::int64_t> steps = folder_.steps();
    std::erase_if(steps, [&](std::int64_t step) { return step > newest; });
    for (std::size_t i = 0; i + scenario_.keep < steps.size(); ++i) {
      try {
        if (scenario_.mutant == Mutant::removed_unsynced)
          remove_unsynced(steps[i]);
        else
          folder_.remove({steps[i], "old"});
      } catch (const Error&) {
        // Another job removes it at the same time.
      }
    }
  }

  void remove_unsynced(std::int64_t step) {
    const std::string to = folder_.hidden({step, "old"}) + ".removed";
    fs_.rename(folder_.published(step), to);
    for (const std::string& name : fs_.list(to)) fs_.remove(to + "/" + name);
    fs_.remove_directory(to);
  }

  const RankScenario& scenario_;
  CrashFs& crash_;
  SlowBoard& board_;
  Place place_;
  RankIdentity me_;
  ProcessFs fs_;
  FakeShares shares_;
  RankFolder folder_;
  std::string last_token_;
  std::vector<std::string> hosts_;
  std::vector<std::unique_ptr<RankMachine>> machines_;
  std::size_t turn_ = 0;
  std::size_t next_save_ = 0;
  bool alive_ = true;
  bool done_ = false;
  bool resuming_ = false;
  ResumeMember* resume_member_ = nullptr;
  SaveMember* save_member_ = nullptr;
  SaveLeader* save_leader_ = nullptr;
  std::optional<ResumeOutcome> resumed_;
};

}  // namespace

RankScenario RankScenario::draw(std::uint64_t seed) {
  std::mt19937_64 random(seed);
  const auto up_to = [&](std::uint64_t most) { return random() % (most + 1); };
  RankScenario scenario;
  scenario.world = 2 + up_to(2);
  for (std::int64_t step = 1, saves = 1 + static_cast<std::int64_t>(up_to(3)); step <= saves; ++step) {
    scenario.saves.push_back(step);
  }
  scenario.keep = 1 + up_to(2);
  scenario.delays = up_to(2) > 0;
  scenario.loses_verdicts = up_to(5) == 0;
  scenario.second_leader = up_to(7) == 0;
  scenario.second_job = up_to(4) == 0;
  scenario.kills = static_cast<int>(up_to(2));
  if (up_to(7) == 0) scenario.failing_rank = up_to(scenario.world - 1);
  return scenario;
}

RankRun simulate(const RankScenario& scenario, CrashFs& crash, std::uint64_t seed) {
  constexpr std::size_t kEndless = 100'000;
  std::mt19937_64 random(seed ^ 0x5eed);
  const auto up_to = [&](std::uint64_t most) { return random() % (most + 1); };
  crash.fs().make_directory(kRun);
  crash.fs().sync_directory("/");

  std::vector<std::unique_ptr<SlowBoard>> boards;
  std::vector<std::unique_ptr<Process>> processes;
  const auto start_job = [&](std::size_t job) {
    boards.push_back(std::make_unique<SlowBoard>(random, scenario.delays, scenario.loses_verdicts));
    for (std::size_t rank = 0; rank < scenario.world; ++rank) {
      const int client = static_cast<int>(processes.size());
      processes.push_back(
          std::make_unique<Process>(scenario, crash, *boards.back(), Process::Place{job, rank, false}, client));
    }
  };
  start_job(0);
  if (scenario.second_leader) {
    const int client = static_cast<int>(processes.size());
    processes.push_back(
        std::make_unique<Process>(scenario, crash, *boards.front(), Process::Place{0, kLeader, true}, client));
  }
  const std::size_t second_at = scenario.second_job ? 20 + up_to(300) : kEndless;
  for (int i = 0; i < scenario.kills; ++i) processes[up_to(processes.size() - 1)]->fs().die_at(1 + up_to(12));

  RankRun run;
  Seconds now = 0;
  std::size_t idle = 0;
  while (true) {
    std::vector<Process*> living;
    for (const auto& one : processes) {
      if (one->alive()) living.push_back(one.get());
    }
    if (living.empty()) break;
    if (++run.actions > kEndless) {
      run.endless = true;
      break;
    }
    if (run.actions == second_at) {
      const std::size_t leader = processes.size();
      start_job(1);
      if (scenario.kills > 0) processes[leader]->fs().die_at(1 + up_to(5));
    }
    const Act act = living[up_to(living.size() - 1)]->act(now, run);
    if (act != Act::look) idle = act == Act::change ? 0 : idle + 1;
    if (idle > 3 * living.size()) {
      now += 1 + static_cast<Seconds>(up_to(3));
      idle = 0;
    }
  }
  for (const auto& one : processes) run.resumes.push_back(one->resumed());
  return run;
}

RankRun resume_all(Fs& fs, std::size_t world) {
  std::mt19937_64 random(0);
  SlowBoard board(random, false, false);
  struct Rank {
    FakeShares shares;
    RankFolder folder;
    std::unique_ptr<ResumeMember> member;
    Rank(Fs& fs, std::size_t rank, std::size_t world)
        : shares(fs, rank, world),
          folder(fs, kRun, shares),
          member(std::make_unique<ResumeMember>(RankIdentity{rank, world, "n"}, kDeadlines, 0)) {}
  };
  std::vector<std::unique_ptr<Rank>> ranks;
  for (std::size_t rank = 0; rank < world; ++rank) ranks.push_back(std::make_unique<Rank>(fs, rank, world));
  ranks[0]->folder.remove_leftovers();
  std::vector<std::string> hosts;
  ResumeLeader leader({0, world, "n"}, hosts, kDeadlines, 0);

  RankRun run;
  const auto act = [&](RankMachine& machine, std::size_t rank) {
    const RankAction action = machine.next(0);
    RankAnswer answer;
    if (action.kind == RankAction::Kind::put) board.put(rank, action.key, action.value, 0);
    if (action.kind == RankAction::Kind::get) answer.value = board.get(rank, action.key, 0);
    if (action.kind == RankAction::Kind::work) answer = ranks[rank]->folder.perform(action);
    if (action.kind != RankAction::Kind::wait && action.kind != RankAction::Kind::end &&
        action.kind != RankAction::Kind::tell) {
      machine.answer(answer, 0);
    }
    return action.kind == RankAction::Kind::end;
  };
  for (bool all_ended = false; !all_ended && ++run.actions < 10'000;) {
    all_ended = act(leader, 0);
    for (std::size_t rank = 0; rank < world; ++rank) all_ended = act(*ranks[rank]->member, rank) && all_ended;
  }
  for (const auto& rank : ranks) run.resumes.push_back(rank->member->outcome());
  run.endless = run.actions == 10'000;
  return run;
}

}  // namespace torchkeep::testing
