// SPDX-License-Identifier: BSD-3-Clause
// What others put into a run's folder under its names: links, hard links, pipes, sockets, folders. Nothing outside the
// folder changes, nothing is waited for, the run goes on, and says what it passed over.
#include <cstring>
#include <gtest/gtest.h>
#include <string>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>
#include <vector>

#include <torchkeep/checkpoint/checkpoint.h>
#include <torchkeep/files/publish.h>
#include <torchkeep/run/checkpoints.h>
#include <torchkeep/run/curves.h>
#include <torchkeep/run/overview.h>
#include <torchkeep/run/tidy.h>

#include "fake_training.h"
#include "support/expect_error.h"
#include "support/temp_dir.h"
#include "support/whole_file.h"

namespace torchkeep {
namespace {

using torchkeep::testing::create_file;
using torchkeep::testing::FakeRun;
using torchkeep::testing::FakeTraining;
using torchkeep::testing::read_file;
using torchkeep::testing::TempDir;

using Steps = std::vector<std::int64_t>;

const std::string kPrecious = "precious\n";

/// A run of three steps, and a file outside of its folder that must stay as it is.
class OddEntries : public ::testing::Test {
 protected:
  OddEntries() {
    create_file(posix_fs(), victim_, kPrecious);
    FakeRun run(posix_fs(), options(), run_);
    run.train(3);
  }
  ~OddEntries() override { EXPECT_EQ(read_file(posix_fs(), victim_), kPrecious); }

  static RunOptions options() { return {.save_every = 1, .keep_last = 2, .durable = false}; }
  std::string in_run(const std::string& name) const { return run_ + "/" + name; }

  void link(const std::string& target, const std::string& name) {
    ASSERT_EQ(::symlink(target.c_str(), in_run(name).c_str()), 0) << name;
  }
  void make_pipe(const std::string& name) { ASSERT_EQ(::mkfifo(in_run(name).c_str(), 0600), 0); }
  void make_socket(const std::string& name) {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    std::strncpy(address.sun_path, in_run(name).c_str(), sizeof address.sun_path - 1);
    const int fd = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    ASSERT_EQ(::bind(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address), 0);
    ::close(fd);
  }
  /// One thing of every kind, each under another name that `name` makes of a number.
  template <class Name>
  void put_everything(Name&& name) {
    link(victim_, name(1));
    link(folder_ / "nowhere", name(2));
    make_pipe(name(3));
    ASSERT_EQ(::mkdir(in_run(name(4)).c_str(), 0700), 0);
    make_socket(name(5));
  }
  void remove(const std::string& name) { posix_fs().remove(in_run(name)); }
  Steps steps() const {
    Steps found;
    for (const CheckpointInfo& one : list_checkpoints(run_)) found.push_back(one.step);
    return found;
  }

  const TempDir folder_;
  const std::string run_ = folder_ / "run";
  const std::string victim_ = folder_ / "victim";
};

std::string padded(const char* before, int number, const char* after = "") {
  return before + std::string(7, '0') + std::to_string(number) + after;
}

TEST_F(OddEntries, UnderNamesOfCheckpointsArePassedOverAndNamedOnce) {
  put_everything([](int i) { return padded("step-", i + 3, ".pt"); });
  remove("step-00000004.pt");  // the link to a file, which reading would find damaged: see below
  ASSERT_EQ(::mkdir(in_run(".step-00000009.pt.doomed").c_str(), 0700), 0);
  FakeRun run(posix_fs(), options(), run_);
  EXPECT_EQ(run.engine.step(), 3);
  EXPECT_EQ(run.training.state(), FakeTraining::after(3));
  EXPECT_EQ(run.log.text(Event::Kind::warning),
            "passed over in " + run_ +
                ", for these are no files of a run: .step-00000009.pt.doomed (a folder), step-00000005.pt (a symbolic "
                "link), step-00000006.pt (a device, pipe or socket), step-00000007.pt (a folder), step-00000008.pt (a "
                "device, pipe or socket)\n");
  EXPECT_EQ(steps(), (Steps{2, 3}));
}

TEST_F(OddEntries, ACheckpointIsSavedInPlaceOfALinkAndNeverThroughIt) {
  link(victim_, "step-00000004.pt");
  FakeRun run(posix_fs(), {.save_every = 1, .keep_last = 9, .resume = Resume::if_any, .durable = false}, run_);
  run.train(5);
  EXPECT_FALSE(posix_fs().read_link(in_run("step-00000004.pt")));
  EXPECT_EQ(load(in_run("step-00000004.pt"))["step"].to<int>(), 4);
}

TEST_F(OddEntries, RemovingALinkedCheckpointRemovesTheLink) {
  const std::string elsewhere = folder_ / "elsewhere.pt";
  posix_fs().rename(in_run("step-00000002.pt"), elsewhere);
  link(elsewhere, "step-00000002.pt");
  EXPECT_EQ(steps(), (Steps{2, 3}));
  EXPECT_EQ(prune_run(run_, {.last = 1}).removed.size(), 1U);
  EXPECT_EQ(steps(), (Steps{3}));
  EXPECT_EQ(load(elsewhere)["step"].to<int>(), 2);
}

TEST_F(OddEntries, UnderNamesOfPinsCountAsPins) {
  put_everything([](int i) { return padded("pin-", i); });
  FakeRun run(posix_fs(), {.save_every = 1, .keep_last = 1, .durable = false}, run_);
  pin_checkpoint(run_, 2);  // a link that leads nowhere: pinned already
  EXPECT_FALSE(posix_fs().status(folder_ / "nowhere"));
  run.train(6);
  EXPECT_EQ(steps(), (Steps{2, 3, 4, 5, 6}));
  EXPECT_EQ(look_at_run(run_).odd.size(), 5U);
  EXPECT_TRUE(unpin_checkpoint(run_, 2));
}

TEST_F(OddEntries, UnderNamesOfMarksAndTemporaryFilesStay) {
  put_everything([](int i) { return padded("finished-", i); });
  put_everything([](int i) { return ".x.tmp-1-" + std::to_string(i); });
  put_everything([](int i) { return padded("step-", i, ".pt.broken"); });
  for (int i = 0; i < 2; ++i) {
    FakeRun run(posix_fs(), options(), run_);
    EXPECT_FALSE(run.engine.finished()) << "a pipe finishes nothing";
    run.train(run.engine.step() + 1);
    EXPECT_EQ(run.log.text(Event::Kind::save_failed), "");
    EXPECT_EQ(run.log.count(Event::Kind::warning), 1U) << run.log.warnings();
    EXPECT_EQ(run.log.count(Event::Kind::cleaned), 0U);
  }
  EXPECT_EQ(look_at_run(run_).odd.size(), 15U);
  EXPECT_TRUE(look_at_run(run_).broken.empty());
  EXPECT_TRUE(look_at_run(run_).leftovers.empty());
  EXPECT_TRUE(remove_broken(run_).removed.empty());
}

TEST_F(OddEntries, InPlaceOfALogLoseTheLogAndNothingElse) {
  for (const char* log : {"metrics.jsonl", "saves.jsonl"}) {
    posix_fs().remove(in_run(log));
    for (int kind = 0; kind < 4; ++kind) {
      if (kind == 0) link(victim_, log);
      if (kind == 1) link(folder_ / "nowhere", log);
      if (kind == 2) make_pipe(log);
      if (kind == 3) make_socket(log);
      FakeRun run(posix_fs(), options(), run_);
      const std::int64_t begin = run.engine.step();
      run.train(begin + 2);
      EXPECT_EQ(steps().back(), begin + 2);
      remove(log);
    }
  }
  EXPECT_FALSE(posix_fs().status(folder_ / "nowhere"));
}

TEST_F(OddEntries, ALogWithOtherNamesIsGoneOnWithAsACopy) {
  for (const char* log : {"metrics.jsonl", "saves.jsonl"}) {
    const std::string copy = folder_ / std::string("copy-of-") + log;
    ASSERT_EQ(::link(in_run(log).c_str(), copy.c_str()), 0);
    const std::string before = read_file(posix_fs(), copy);
    FakeRun run(posix_fs(), options(), run_);
    run.train(run.engine.step() + 1);
    EXPECT_EQ(read_file(posix_fs(), copy), before);
    EXPECT_GT(read_file(posix_fs(), in_run(log)).size(), before.size());
    EXPECT_TRUE(read_file(posix_fs(), in_run(log)).starts_with(before));
  }
}

TEST_F(OddEntries, InPlaceOfTheLockArePassedOverAndAnotherNameIsLocked) {
  remove(".lock");
  link(victim_, ".lock");
  const std::string before = read_file(posix_fs(), victim_);
  {
    FakeRun run(posix_fs(), options(), run_);
    EXPECT_EQ(run.log.count(Event::Kind::warning), 1U);
    EXPECT_NE(run.log.warnings().find(".lock (a symbolic link)"), std::string::npos);
    run.train(run.engine.step() + 1);
    EXPECT_EQ(steps().back(), run.engine.step());
    EXPECT_ERROR(FakeRun(posix_fs(), options(), run_), Code::busy, ".lock-2: locked by process");
    EXPECT_ERROR(prune_run(run_, {.last = 1}), Code::busy, ".lock-2: locked by process");
    EXPECT_ERROR(remove_checkpoints(run_, {2}), Code::busy, ".lock-2: locked by process");
    EXPECT_ERROR(remove_broken(run_), Code::busy, ".lock-2: locked by process");
    EXPECT_EQ(look_at_run(run_).odd, (std::vector<std::string>{".lock (a symbolic link)"}));
    remove(".lock");  // by who reads that warning, and then starts another
    EXPECT_ERROR(FakeRun(posix_fs(), options(), run_), Code::busy, ".lock-2: locked by process");
  }
  EXPECT_EQ(read_file(posix_fs(), victim_), before);
  FakeRun run(posix_fs(), options(), run_);
  EXPECT_EQ(run.log.warnings(), "");
}

TEST_F(OddEntries, InPlaceOfBothLocksAreAnErrorThatSaysSo) {
  remove(".lock");
  link(victim_, ".lock");
  posix_fs().make_directory(in_run(".lock-2"));
  EXPECT_ERROR(FakeRun(posix_fs(), options(), run_), Code::invalid_argument,
               ".lock-2: expected a file, found a folder");
}

TEST_F(OddEntries, AHardLinkInPlaceOfTheLockIsLockedAndKeepsItsBytes) {
  remove(".lock");
  ASSERT_EQ(::link(victim_.c_str(), in_run(".lock").c_str()), 0);
  FakeRun run(posix_fs(), options(), run_);
  run.train(4);
  EXPECT_EQ(steps(), (Steps{3, 4}));
}

TEST(RunDirectory, OfAStoreElsewhereIsRefusedAndMakesNoFolder) {
  const TempDir folder;
  ASSERT_EQ(::chdir(folder.path().c_str()), 0);
  for (const char* address : {"s3://bucket/run", "gs://bucket/run", "file:///run", "abfss://a@b/c", "hdfs://h/p"}) {
    for (const Role role : {Role::writer, Role::reader}) {
      EXPECT_ERROR(Engine(address, {.role = role}), Code::invalid_argument,
                   "expected a folder, found the address of a");
    }
  }
  EXPECT_TRUE(posix_fs().list(folder.path()).empty());
  const Engine odd("a:b/c d://e", {});
  EXPECT_EQ(posix_fs().list(folder.path()), (std::vector<std::string>{"a:b"}));
  ASSERT_EQ(::chdir("/"), 0);
}

TEST(RunDirectory, AMessageSpellsOptionsInTheLanguageOfItsProgram) {
  const TempDir folder;
  const Engine writer(folder.path(), {});
  EXPECT_ERROR(Engine(folder.path(), {}), Code::busy, "open the run with RunOptions::role = Role::reader to read it");
  EXPECT_ERROR(Engine(folder.path(), {.spelling = Spelling::python}), Code::busy,
               "open the run with role=\"reader\" to read it");
}

}  // namespace
}  // namespace torchkeep
