// SPDX-License-Identifier: BSD-3-Clause
// A training of several ranks without threads or clocks: a scheduler does one thing of one process after another, in an
// order that a seed chooses, kills processes at any operation on files, delays what the board shows and loses verdicts.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <random>
#include <set>
#include <string>
#include <vector>

#include <torchkeep/ranks/folder.h>
#include <torchkeep/ranks/resume.h>
#include <torchkeep/ranks/save.h>

#include "support/crash_fs.h"

namespace torchkeep::testing {

/// Protocols that are wrong, each of which a test must notice.
enum class Mutant {
  none,
  report_before_sync,     ///< a rank reports before its file is written and synced
  no_file_sync,           ///< a rank does not sync its file
  no_folder_sync,         ///< no process syncs the hidden folder
  no_parent_sync,         ///< the leader does not sync the folder of the run
  index_before_sync,      ///< the index is synced before it is written, as DCP syncs .metadata
  smaller_quorum,         ///< one report less is enough
  verdict_before_rename,  ///< the ranks are told before the rename
  removed_in_place,       ///< a leftover folder loses its files under its own name
  removed_unsynced,       ///< an old checkpoint loses its files before its new name is on stable storage
};

/// Ends a process of the simulation.
struct Killed {};

/// What a process sees of the disk; dies at a chosen call, in the middle of it.
class ProcessFs final : public Fs {
 public:
  ProcessFs(CrashFs& crash, int client, Mutant mutant) : crash_(crash), client_(client), mutant_(mutant) {}
  /// Dies at the `call`-th call from now on that changes something.
  void die_at(std::size_t call) { die_at_ = calls_ + call; }

  std::unique_ptr<File> create(const std::string& path, const CreateOptions& options) override;
  std::unique_ptr<File> open_write(const std::string& path) override { return as_client().open_write(path); }
  std::unique_ptr<ReadAt> open_read(const std::string& path) override { return as_client().open_read(path); }
  void rename(const std::string& from, const std::string& to) override;
  void remove(const std::string& path) override;
  void remove_directory(const std::string& path) override;
  void sync_directory(const std::string& path) override;
  bool make_directory(const std::string& path) override;
  std::vector<std::string> list(const std::string& path) override { return as_client().list(real(path)); }
  std::optional<FileStatus> status(const std::string& path) override { return as_client().status(path); }
  std::optional<std::string> read_link(const std::string& path) override { return as_client().read_link(path); }
  std::optional<std::uint64_t> free_space(const std::string& path) override { return as_client().free_space(path); }
  LockAttempt try_lock(const std::string& path, const std::string& note) override {
    return as_client().try_lock(path, note);
  }

  /// Counts a change. Throws Killed.
  void change();
  Fs& as_client();
  Mutant mutant() const noexcept { return mutant_; }

 private:
  class OpenFile;
  std::string real(const std::string& path) const;
  CrashFs& crash_;
  int client_;
  Mutant mutant_;
  std::size_t calls_ = 0;
  std::size_t die_at_ = ~std::size_t{0};
  std::map<std::string, std::string> in_place_;  ///< of removed_in_place: what goes by another name
};

/// Checkpoints of the simulation: a small file for each rank, and an index in two files. What a rank holds follows from
/// the step and its number, so that a check needs no memory of the run.
class FakeShares final : public ShareFormat {
 public:
  FakeShares(Fs& fs, std::size_t rank, std::size_t world) : fs_(fs), rank_(rank), world_(world) {}
  std::string write_share(const std::string& folder, const CheckpointId& checkpoint) override;
  void confirm_share() override {}
  void take_report(const CheckpointId& checkpoint, const RankReport& report) override;
  void write_index(const std::string& folder, const CheckpointId& checkpoint) override;
  std::string token_of(const std::string& folder) override;
  void load(const std::string& folder, const CheckpointId& checkpoint) override;

  /// What rank `rank` says of its share.
  static std::string list_of(std::size_t rank, const CheckpointId& checkpoint);
  static std::string content_of(std::size_t rank, const CheckpointId& checkpoint);

  bool sync_before_writing = false;  ///< Mutant::index_before_sync

 private:
  std::vector<std::string> read_index(const std::string& folder);
  void write(const std::string& path, const std::string& bytes, bool late);
  Fs& fs_;
  std::size_t rank_;
  std::size_t world_;
  std::string index_;  ///< so far
};

/// A board whose values reach others late.
class SlowBoard {
 public:
  SlowBoard(std::mt19937_64& random, bool delays, bool loses_verdicts)
      : random_(random), delays_(delays), loses_verdicts_(loses_verdicts) {}
  void put(std::size_t rank, const std::string& key, const std::string& value, Seconds now);
  std::optional<std::string> get(std::size_t rank, const std::string& key, Seconds now) const;

 private:
  struct Entry {
    std::string value;
    std::size_t writer;
    Seconds visible;
  };
  std::mt19937_64& random_;
  bool delays_;
  bool loses_verdicts_;
  std::map<std::string, std::vector<Entry>> entries_;
};

/// What happens in one simulated run; drawn by a seed.
struct RankScenario {
  std::size_t world = 4;
  std::vector<std::int64_t> saves;  ///< steps, after a resume
  std::size_t keep = 2;             ///< checkpoints
  bool delays = true;
  bool loses_verdicts = false;
  bool second_leader = false;                    ///< another process leads the same ranks
  bool second_job = false;                       ///< another training begins in the same folder while this one lives
  int kills = 1;                                 ///< processes that die
  std::optional<std::size_t> failing_rank = {};  ///< its disk is full
  std::optional<std::size_t> hanging_rank = {};  ///< it never comes to its first save
  Mutant mutant = Mutant::none;

  static RankScenario draw(std::uint64_t seed);
};

/// How a simulated run ended, apart from its disk.
struct RankRun {
  bool endless = false;
  std::vector<std::optional<ResumeOutcome>> resumes{};  ///< by process; nothing of those that died before
  std::set<std::int64_t> committed{};                   ///< steps that any process took for saved
  std::vector<std::string> told{};
  std::vector<std::string> abandoned{};  ///< why, by process and save
  std::size_t actions = 0;
};

/// Runs it on a disk; what is told is acknowledged there.
RankRun simulate(const RankScenario& scenario, CrashFs& crash, std::uint64_t seed);

/// Resumes with `world` ranks that live, on a board without delays.
RankRun resume_all(Fs& fs, std::size_t world);

}  // namespace torchkeep::testing
