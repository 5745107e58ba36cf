// SPDX-License-Identifier: BSD-3-Clause
// Kills a real training with SIGKILL again and again, at random times and at every kind of call to the file system,
// while a reader looks at its checkpoints: the end is bit for bit that of a training nobody disturbed.
//
// TORCHKEEP_KILLS=1000 kills that often (`make kill N=1000`), TORCHKEEP_KILL_SEED chooses the moments.
#include <algorithm>
#include <chrono>
#include <csignal>
#include <cstdlib>
#include <fcntl.h>
#include <gtest/gtest.h>
#include <iostream>
#include <map>
#include <random>
#include <sstream>
#include <string>
#include <sys/wait.h>
#include <thread>
#include <unistd.h>
#include <vector>

#include <torchkeep/torchkeep.h>

#include "support/temp_dir.h"
#include "support/whole_file.h"

namespace torchkeep {
namespace {

using Clock = std::chrono::steady_clock;
using testing::read_file;
using testing::TempDir;

constexpr const char* kBatches = "120";

double seconds_since(Clock::time_point begin) {
  return std::chrono::duration<double>(Clock::now() - begin).count();
}

std::size_t from_environment(const char* name, std::size_t otherwise) {
  const char* const text = std::getenv(name);
  return text != nullptr ? std::strtoull(text, nullptr, 10) : otherwise;
}

/// A call to the file system at which a survivor dies; see survivor.cpp.
struct KillAt {
  std::string kind;  ///< empty: at none
  std::size_t number = 1;
  std::size_t when = 0;
};

/// A running survivor; killed at the latest with this object.
class Process {
 public:
  Process(const std::string& directory, const KillAt& at, const std::string& output) {
    std::vector<std::string> words = {TORCHKEEP_SURVIVOR, directory, kBatches};
    if (!at.kind.empty()) {
      for (const std::string& word : {at.kind, std::to_string(at.number), std::to_string(at.when)})
        words.push_back(word);
    }
    std::vector<char*> arguments;
    for (std::string& word : words) arguments.push_back(word.data());
    arguments.push_back(nullptr);
    child_ = ::fork();
    if (child_ != 0) return;
    const int out = ::open(output.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0666);
    ::dup2(out, STDOUT_FILENO);
    ::execv(TORCHKEEP_SURVIVOR, arguments.data());
    ::_exit(127);
  }
  Process(const Process&) = delete;
  Process& operator=(const Process&) = delete;
  ~Process() {
    kill();
    while (is_running()) std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }

  bool is_running() {
    if (!running_) return false;
    running_ = ::waitpid(child_, &status_, WNOHANG) == 0;
    return running_;
  }
  void kill() {
    if (running_) ::kill(child_, SIGKILL);
  }
  bool was_killed() const { return WIFSIGNALED(status_) && WTERMSIG(status_) == SIGKILL; }
  bool is_done() const { return WIFEXITED(status_) && WEXITSTATUS(status_) == 0; }

 private:
  pid_t child_ = -1;
  bool running_ = true;
  int status_ = 0;
};

/// Looks at the newest checkpoint as anybody may at any time.
struct Reader {
  std::size_t looks = 0;
  std::vector<std::string> bad;

  void look(const std::string& directory) {
    try {
      const std::string path = find_checkpoint(directory, "last");
      const Value checkpoint = load(path);
      ++looks;
      if (path.find(std::to_string(checkpoint["step"].to<std::int64_t>())) == std::string::npos) bad.push_back(path);
    } catch (const Error& error) {
      // None yet, or removed between the look and the opening.
      if (error.code() != Code::not_found) bad.emplace_back(error.what());
    }
  }
};

struct Ending {
  Value state;
  std::string metrics;

  explicit Ending(const std::string& directory)
      : state(load(find_checkpoint(directory, "last"))), metrics(read_file(posix_fs(), directory + "/metrics.jsonl")) {
    state.erase("provenance");
  }
};

/// What an undisturbed training does.
struct Undisturbed {
  double seconds = 0;
  std::map<std::string, std::size_t> calls;  ///< how many of each kind: "rename /", "write " ...

  Undisturbed(const TempDir& folder, const std::string& directory) {
    const auto begin = Clock::now();
    Process process(directory, {}, folder / "output");
    while (process.is_running()) std::this_thread::sleep_for(std::chrono::milliseconds(5));
    EXPECT_TRUE(process.is_done());
    seconds = seconds_since(begin);
    std::istringstream lines(read_file(posix_fs(), folder / "output"));
    for (std::string line; std::getline(lines, line);) {
      // A kind ends where the path or a number begins.
      const std::size_t end = line.find_first_of("/0123456789");
      ++calls[line.substr(0, line[end] == '/' ? end + 1 : end)];
    }
  }
};

/// Chooses how processes die: every second one at a random time, the others at the kind of call at which the fewest
/// died so far, in turn before, halfway and after it.
class Plan {
 public:
  Plan(const Undisturbed& undisturbed, std::uint64_t seed) : undisturbed_(undisturbed), random_(seed) {
    for (const auto& [kind, count] : undisturbed.calls) kills_[kind] = 0;
  }

  /// The next process's death: at a call, or (an empty kind) after some seconds.
  std::pair<KillAt, double> next() {
    if (at_call_ = !at_call_; !at_call_) {
      return {{}, std::uniform_real_distribution<>(0, undisturbed_.seconds)(random_)};
    }
    const auto fewest = std::min_element(kills_.begin(), kills_.end(),
                                         [](const auto& a, const auto& b) { return a.second < b.second; });
    kind_ = fewest->first;
    return {{kind_, 1 + random_() % undisturbed_.calls.at(kind_), random_() % 3}, kNever};
  }
  void was_killed() {
    if (at_call_) ++kills_[kind_];
  }
  /// Some process died at every kind of call.
  bool complete() const {
    return std::none_of(kills_.begin(), kills_.end(), [](const auto& kind) { return kind.second == 0; });
  }
  const std::map<std::string, std::size_t>& kills() const { return kills_; }

  static constexpr double kNever = 1e9;

 private:
  const Undisturbed& undisturbed_;
  std::mt19937_64 random_;
  std::map<std::string, std::size_t> kills_;
  std::string kind_;
  bool at_call_ = false;
};

TEST(Kill, ATrainingKilledAtAnyMomentEndsAsIfNobodyHad) {
  const std::size_t wanted = from_environment("TORCHKEEP_KILLS", 30);
  TempDir folder;
  const Undisturbed undisturbed(folder, folder / "undisturbed");
  const Ending expected(folder / "undisturbed");
  Plan plan(undisturbed, from_environment("TORCHKEEP_KILL_SEED", 1));

  Reader reader;
  std::size_t kills = 0, trainings = 0, starts = 0;
  const auto goes_on = [&] { return kills < wanted || !plan.complete(); };
  while (goes_on()) {
    const std::string directory = folder / ("run" + std::to_string(trainings++));
    for (bool done = false; !done; ++starts) {
      const auto [at, after] = goes_on() ? plan.next() : std::pair(KillAt{}, Plan::kNever);
      Process process(directory, at, folder / "output");
      const auto begin = Clock::now();
      while (process.is_running()) {
        reader.look(directory);
        if (seconds_since(begin) > after) process.kill();
        std::this_thread::sleep_for(std::chrono::milliseconds(2));
      }
      reader.look(directory);
      done = process.is_done();
      ASSERT_TRUE(done || process.was_killed()) << "it ended with an error of its own";
      if (done) continue;
      ++kills;
      plan.was_killed();
    }
    const Ending ending(directory);
    EXPECT_TRUE(ending.state == expected.state) << "the states differ after " << kills << " kills";
    EXPECT_EQ(ending.metrics, expected.metrics);
  }
  EXPECT_EQ(reader.bad, std::vector<std::string>{});
  EXPECT_GT(reader.looks, wanted);
  std::cout << kills << " kills in " << trainings << " trainings of " << starts << " processes, " << reader.looks
            << " looks by a reader; of the kills at calls to the file system:\n";
  for (const auto& [kind, count] : plan.kills()) std::cout << "  " << count << " at '" << kind << "'\n";
}

}  // namespace
}  // namespace torchkeep
