// SPDX-License-Identifier: BSD-3-Clause
// The lock between processes: who is refused, what they are told, when it ends, and the traps of POSIX record locks.
#include <atomic>
#include <csignal>
#include <fcntl.h>
#include <functional>
#include <gtest/gtest.h>
#include <memory>
#include <optional>
#include <string>
#include <sys/stat.h>
#include <sys/wait.h>
#include <thread>
#include <unistd.h>
#include <vector>

#include <torchkeep/files/lock.h>

#include "support/expect_error.h"
#include "support/temp_dir.h"
#include "support/whole_file.h"

namespace torchkeep {
namespace {

using torchkeep::testing::create_file;
using torchkeep::testing::read_file;
using torchkeep::testing::TempDir;

/// A forked process that runs `body`, says that it is done, and lives on until it is killed.
class Process final {
 public:
  explicit Process(const std::function<bool()>& body) {
    int ends[2];
    if (::pipe(ends) != 0) throw std::runtime_error("pipe");
    pid_ = ::fork();
    if (pid_ == 0) {
      bool good = false;
      try {
        good = body();
      } catch (const std::exception&) {
      }
      const char answer = good ? 'y' : 'n';
      if (::write(ends[1], &answer, 1) != 1) ::_exit(1);
      while (true) ::pause();
    }
    ::close(ends[1]);
    char answer = 'n';
    good_ = ::read(ends[0], &answer, 1) == 1 && answer == 'y';
    ::close(ends[0]);
  }
  Process(const Process&) = delete;
  Process& operator=(const Process&) = delete;
  ~Process() { kill(); }

  bool good() const noexcept { return good_; }
  pid_t pid() const noexcept { return pid_; }
  void kill() {
    if (pid_ <= 0) return;
    ::kill(pid_, SIGKILL);
    ::waitpid(pid_, nullptr, 0);
    pid_ = -1;
  }

 private:
  pid_t pid_ = -1;
  bool good_ = false;
};

/// Whether another process could take the lock now.
bool another_process_can_lock(const std::string& path) {
  return Process([&] {
           const LockAttempt attempt = posix_fs().try_lock(path, "probe");
           return attempt.lock != nullptr;
         })
      .good();
}

class LockTest : public ::testing::Test {
 protected:
  const TempDir folder_;
  const std::string path_ = folder_ / "run.lock";
};

TEST_F(LockTest, AnotherProcessIsRefusedAndToldWhoHoldsIt) {
  std::unique_ptr<Lock> held;
  const Process holder([&] {
    held = std::make_unique<Lock>(posix_fs(), path_);
    return true;
  });
  ASSERT_TRUE(holder.good());
  char host[256] = {};
  ASSERT_EQ(::gethostname(host, sizeof host - 1), 0);
  const std::string who = "process " + std::to_string(holder.pid()) + " on " + host + " since 20";
  EXPECT_ERROR(Lock(posix_fs(), path_, {.if_busy = "open it with Role::reader"}), Code::busy,
               path_ + ": locked by " + who);
  EXPECT_ERROR(Lock(posix_fs(), path_, {.if_busy = "open it with Role::reader"}), Code::busy,
               "Z; open it with Role::reader");
}

TEST_F(LockTest, EndsWhenItsProcessIsKilled) {
  std::unique_ptr<Lock> held;
  Process holder([&] {
    held = std::make_unique<Lock>(posix_fs(), path_);
    return true;
  });
  ASSERT_TRUE(holder.good());
  holder.kill();
  Lock(posix_fs(), path_).confirm();
}

TEST_F(LockTest, AWorkerForkedByAKilledProcessDoesNotKeepIt) {
  std::unique_ptr<Lock> held;
  int ends[2];
  ASSERT_EQ(::pipe(ends), 0);
  Process holder([&] {
    held = std::make_unique<Lock>(posix_fs(), path_);
    const pid_t worker = ::fork();
    if (worker == 0) {
      const pid_t own = ::getpid();  // says that it runs: before that, its end of the fork is not done
      static_cast<void>(::write(ends[1], &own, sizeof own) == sizeof own);
      while (true) ::pause();
    }
    return worker > 0;
  });
  ASSERT_TRUE(holder.good());
  pid_t worker = 0;
  ASSERT_EQ(::read(ends[0], &worker, sizeof worker), static_cast<ssize_t>(sizeof worker));
  holder.kill();
  ASSERT_EQ(::kill(worker, 0), 0) << "the worker must be alive for this test to mean anything";
  EXPECT_NO_THROW(Lock(posix_fs(), path_).confirm());
  ::kill(worker, SIGKILL);
  ::close(ends[0]);
  ::close(ends[1]);
}

TEST_F(LockTest, EndsWithTheObjectAndLeavesAnEmptyFile) {
  { const Lock lock(posix_fs(), path_); }
  EXPECT_EQ(read_file(posix_fs(), path_), "");
  EXPECT_TRUE(another_process_can_lock(path_));
}

TEST_F(LockTest, ASecondOneInTheSameProcessIsRefusedUnderEveryName) {
  const Lock lock(posix_fs(), path_);
  ASSERT_EQ(::link(path_.c_str(), (folder_ / "hard").c_str()), 0);
  for (const std::string& name : {path_, folder_ / "hard", folder_ / "./run.lock"}) {
    EXPECT_ERROR(Lock(posix_fs(), name), Code::busy, "locked by process " + std::to_string(::getpid()));
  }
  EXPECT_FALSE(another_process_can_lock(path_));
}

TEST_F(LockTest, OfManyThreadsOneGetsItAndKeepsIt) {
  std::vector<std::optional<Lock>> locks(8);
  std::atomic<int> refused{0};
  std::vector<std::thread> threads;
  for (auto& lock : locks) {
    threads.emplace_back([&] {
      try {
        lock.emplace(posix_fs(), path_);
      } catch (const Error& error) {
        refused += error.code() == Code::busy;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(refused, 7);
  EXPECT_FALSE(another_process_can_lock(path_));
}

TEST_F(LockTest, ReadingItsFileThroughFsDoesNotDropIt) {
  const Lock lock(posix_fs(), path_);
  EXPECT_TRUE(read_file(posix_fs(), path_).starts_with("process " + std::to_string(::getpid()) + " on "));
  EXPECT_FALSE(another_process_can_lock(path_));
}

TEST_F(LockTest, AForkedChildNeitherHoldsItNorHarmsIt) {
  auto lock = std::make_unique<Lock>(posix_fs(), path_);
  const std::string note = read_file(posix_fs(), path_);
  const std::string parent = "locked by process " + std::to_string(::getpid());
  const Process child([&] {
    bool right = static_cast<bool>(torchkeep::testing::throws_error([&] { lock->confirm(); }, Code::busy, "forked"));
    right = right && torchkeep::testing::throws_error([&] { Lock(posix_fs(), path_); }, Code::busy, parent);
    lock.reset();
    return right;
  });
  EXPECT_TRUE(child.good());
  lock->confirm();
  EXPECT_FALSE(another_process_can_lock(path_));
  // Read in another process: in this one Fs answers from memory.
  EXPECT_TRUE(Process([&] { return read_file(posix_fs(), path_) == note; }).good());
}

TEST_F(LockTest, RefusalsDoNotUseUpDescriptors) {
  const Lock lock(posix_fs(), path_);
  const auto next_descriptor = [] {
    const int fd = ::open("/dev/null", O_RDONLY | O_CLOEXEC);
    ::close(fd);
    return fd;
  };
  const int before = next_descriptor();
  for (int i = 0; i < 5; ++i) {
    EXPECT_ERROR(Lock(posix_fs(), path_), Code::busy, "locked by");
  }
  EXPECT_EQ(next_descriptor(), before);
}

/// What any library in the process may do (a copy of the folder does): the kernel then drops a record lock.
void open_and_close(const std::string& path) {
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  ASSERT_GE(fd, 0);
  ::close(fd);
}

/// What a network file system does when its server was away for too long.
void drop_locks_of_this_process(const std::string& path) {
  struct stat ours {};
  ASSERT_EQ(::stat(path.c_str(), &ours), 0);
  for (int fd = 3; fd < 64; ++fd) {
    struct stat info {};
    if (::fstat(fd, &info) != 0 || info.st_ino != ours.st_ino || info.st_dev != ours.st_dev) continue;
    struct flock whole {};
    whole.l_type = F_UNLCK;
    whole.l_whence = SEEK_SET;
    ASSERT_EQ(::fcntl(fd, F_OFD_SETLK, &whole), 0);
  }
}

TEST_F(LockTest, StaysWhenThisProcessOpensAndClosesItsFile) {
  Lock lock(posix_fs(), path_);
  open_and_close(path_);
  EXPECT_FALSE(another_process_can_lock(path_));
  lock.confirm();
}

TEST_F(LockTest, TouchesNothingThatIsNotALockFile) {
  create_file(posix_fs(), folder_ / "victim", "precious");
  ASSERT_EQ(::symlink((folder_ / "victim").c_str(), path_.c_str()), 0);
  EXPECT_ERROR(Lock(posix_fs(), path_), Code::invalid_argument, "found a symbolic link, which is not followed here");
  posix_fs().remove(path_);
  ASSERT_EQ(::symlink((folder_ / "nothing").c_str(), path_.c_str()), 0);
  EXPECT_ERROR(Lock(posix_fs(), path_), Code::invalid_argument, "found a symbolic link");
  EXPECT_FALSE(posix_fs().status(folder_ / "nothing"));
  posix_fs().remove(path_);
  ASSERT_EQ(::mkfifo(path_.c_str(), 0600), 0);
  EXPECT_ERROR(Lock(posix_fs(), path_), Code::invalid_argument, "found a device, pipe or socket");
  posix_fs().remove(path_);
  ASSERT_EQ(::mkdir(path_.c_str(), 0700), 0);
  EXPECT_ERROR(Lock(posix_fs(), path_), Code::invalid_argument, "found a folder");
  EXPECT_EQ(read_file(posix_fs(), folder_ / "victim"), "precious");
}

TEST_F(LockTest, AFileThatHoldsOtherThingsIsLockedAndKeepsThem) {
  create_file(posix_fs(), path_, "precious");
  { const Lock lock(posix_fs(), path_); }
  EXPECT_EQ(read_file(posix_fs(), path_), "precious");
  // A note that has other names: a copy of the run made of hard links.
  create_file(posix_fs(), folder_ / "copy", "process 1 on elsewhere since 2001-01-01T00:00:00Z\n");
  posix_fs().remove(path_);
  ASSERT_EQ(::link((folder_ / "copy").c_str(), path_.c_str()), 0);
  { const Lock lock(posix_fs(), path_); }
  EXPECT_TRUE(read_file(posix_fs(), folder_ / "copy").starts_with("process 1 on elsewhere"));
}

TEST_F(LockTest, AForkWhileManyThreadsLockAndUnlockLeavesTheChildNothing) {
  std::atomic<bool> over{false};
  std::vector<std::thread> threads;
  for (int i = 0; i < 3; ++i) {
    threads.emplace_back([&, path = path_ + std::to_string(i)] {
      while (!over) Lock(posix_fs(), path).confirm();
    });
  }
  for (int i = 0; i < 50; ++i) {
    const pid_t child = ::fork();
    if (child == 0) {
      for (int fd = 3; fd < 64; ++fd) {
        struct stat info {};
        const bool is_file = ::fstat(fd, &info) == 0 && S_ISREG(info.st_mode);
        if (is_file && (::fcntl(fd, F_GETFL) & O_ACCMODE) == O_RDWR) ::_exit(1);
      }
      ::_exit(0);
    }
    int status = 0;
    ASSERT_EQ(::waitpid(child, &status, 0), child);
    ASSERT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0);
  }
  over = true;
  for (std::thread& thread : threads) thread.join();
}

TEST_F(LockTest, ConfirmTellsWhenAnotherProcessTookItMeanwhile) {
  Lock lock(posix_fs(), path_);
  drop_locks_of_this_process(path_);
  std::unique_ptr<Lock> theirs;
  Process thief([&] {
    theirs = std::make_unique<Lock>(posix_fs(), path_);
    return true;
  });
  ASSERT_TRUE(thief.good());
  EXPECT_ERROR(lock.confirm(), Code::busy, path_ + ": the lock was lost, and another process has taken it");
}

TEST_F(LockTest, ConfirmTellsWhenTheFileWasReplaced) {
  Lock lock(posix_fs(), path_);
  posix_fs().remove(path_);
  create_file(posix_fs(), path_, "");
  EXPECT_ERROR(lock.confirm(), Code::busy, path_ + ": the lock file was deleted or replaced");
}

TEST_F(LockTest, AnOldNoteIsNotTakenForTheHolders) {
  create_file(posix_fs(), path_, "process 1 on elsewhere since 2001-01-01T00:00:00Z\n");
  const Process holder([&] {
    struct flock whole {};
    whole.l_type = F_WRLCK;
    whole.l_whence = SEEK_SET;
    return ::fcntl(::open(path_.c_str(), O_RDWR | O_CLOEXEC), F_SETLK, &whole) == 0;
  });
  ASSERT_TRUE(holder.good());
  try {
    const Lock lock(posix_fs(), path_);
    FAIL() << "expected the lock to be refused";
  } catch (const Error& error) {
    EXPECT_EQ(error.message(), "locked by process " + std::to_string(holder.pid()));
  }
}

TEST_F(LockTest, AMissingFolderIsNotFound) {
  EXPECT_ERROR(Lock(posix_fs(), folder_ / "none/run.lock"), Code::not_found,
               "none/run.lock: cannot open the lock file");
}

}  // namespace
}  // namespace torchkeep
