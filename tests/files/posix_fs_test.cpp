// SPDX-License-Identifier: BSD-3-Clause
// What only the real file system shows: devices, permissions, limits, full disks, files that shrink.
#include <cerrno>
#include <csignal>
#include <fcntl.h>
#include <filesystem>
#include <gtest/gtest.h>
#include <string>
#include <sys/resource.h>
#include <sys/stat.h>
#include <thread>
#include <unistd.h>
#include <vector>

#include <torchkeep/files/publish.h>

#include "support/expect_error.h"
#include "support/small_disk.h"
#include "support/temp_dir.h"
#include "support/unprivileged.h"
#include "support/whole_file.h"

namespace torchkeep {
namespace {

using torchkeep::testing::create_file;
using torchkeep::testing::read_file;
using torchkeep::testing::SmallDisk;
using torchkeep::testing::TempDir;
using torchkeep::testing::Unprivileged;

TEST(PosixFs, RefusesDevicesAndPipesWithoutWaitingForThem) {
  const TempDir folder;
  ASSERT_EQ(::mkfifo((folder / "pipe").c_str(), 0600), 0);
  EXPECT_ERROR(posix_fs().open_read(folder / "pipe"), Code::invalid_argument, "pipe: expected a regular file");
  EXPECT_ERROR(posix_fs().open_read("/dev/null"), Code::invalid_argument, "/dev/null: expected a regular file");
  EXPECT_ERROR(posix_fs().open_write(folder / "pipe"), Code::invalid_argument, "pipe: expected a regular file");
  EXPECT_ERROR(posix_fs().open_write("/dev/null"), Code::invalid_argument, "/dev/null: expected a regular file");
  EXPECT_EQ(posix_fs().status("/dev/null")->kind, FileKind::other);
}

TEST(PosixFs, APathWithANulIsAnErrorAndNeverCutOff) {
  const TempDir folder;
  create_file(posix_fs(), folder / "victim", "old");
  const std::string path = (folder / "victim") + std::string("\0.bak", 5);
  const char* const message = "victim\\x00.bak: expected a path, found one with a NUL byte in it";
  EXPECT_ERROR(publish(posix_fs(), path, as_bytes("new")), Code::invalid_argument, message);
  EXPECT_ERROR(posix_fs().create(path, {}), Code::invalid_argument, message);
  EXPECT_ERROR(posix_fs().open_write(path), Code::invalid_argument, message);
  EXPECT_ERROR(posix_fs().open_read(path), Code::invalid_argument, message);
  EXPECT_ERROR(posix_fs().rename(path, folder / "b"), Code::invalid_argument, message);
  EXPECT_ERROR(posix_fs().rename(folder / "victim", path), Code::invalid_argument, message);
  EXPECT_ERROR(posix_fs().remove(path), Code::invalid_argument, message);
  EXPECT_ERROR(posix_fs().sync_directory(path), Code::invalid_argument, message);
  EXPECT_ERROR(posix_fs().make_directory(path), Code::invalid_argument, message);
  EXPECT_ERROR(posix_fs().list(path), Code::invalid_argument, message);
  EXPECT_ERROR(posix_fs().status(path), Code::invalid_argument, message);
  EXPECT_ERROR(posix_fs().read_link(path), Code::invalid_argument, message);
  EXPECT_ERROR(posix_fs().free_space(path), Code::invalid_argument, message);
  EXPECT_ERROR(posix_fs().try_lock(path, ""), Code::invalid_argument, message);
  EXPECT_EQ(posix_fs().list(folder.path()), (std::vector<std::string>{"victim"}));
  EXPECT_EQ(read_file(posix_fs(), folder / "victim"), "old");
}

TEST(PosixFs, ChangesNoFileThroughALinkOrAnotherName) {
  const TempDir folder;
  create_file(posix_fs(), folder / "victim", "old");
  ASSERT_EQ(::symlink((folder / "victim").c_str(), (folder / "link").c_str()), 0);
  ASSERT_EQ(::symlink((folder / "nothing").c_str(), (folder / "dangling").c_str()), 0);
  EXPECT_ERROR(posix_fs().open_write(folder / "link"), Code::invalid_argument,
               "link: expected a file, found a symbolic");
  EXPECT_ERROR(posix_fs().open_write(folder / "dangling"), Code::invalid_argument, "found a symbolic link");
  EXPECT_FALSE(posix_fs().status(folder / "nothing"));
  EXPECT_EQ(posix_fs().entry(folder / "dangling")->kind, FileKind::link);
  EXPECT_FALSE(posix_fs().entry(folder / "nothing"));
  ASSERT_EQ(::link((folder / "victim").c_str(), (folder / "hard").c_str()), 0);
  EXPECT_ERROR(posix_fs().open_write(folder / "hard"), Code::invalid_argument, "hard: expected a file of its own");
  open_log(posix_fs(), folder / "hard")->write_at(3, as_bytes("!"));
  EXPECT_EQ(read_file(posix_fs(), folder / "hard"), "old!");
  publish(posix_fs(), folder / "link", as_bytes("new"), {.replace_link = true});
  EXPECT_FALSE(posix_fs().read_link(folder / "link"));
  mark(posix_fs(), folder / "dangling");
  mark(posix_fs(), folder / "mark");
  mark(posix_fs(), folder / "mark");
  EXPECT_EQ(read_file(posix_fs(), folder / "mark"), "");
  EXPECT_EQ(read_file(posix_fs(), folder / "victim"), "old");
}

TEST(PosixFs, DescriptorsAreNotInheritedByOtherPrograms) {
  const TempDir folder;
  const auto written = posix_fs().create(folder / "a", {});
  const auto appended = posix_fs().open_write(folder / "b");
  const auto read = posix_fs().open_read(folder / "a");
  const LockAttempt lock = posix_fs().try_lock(folder / "lock", "note");
  ASSERT_TRUE(lock.lock);
  int seen = 0;
  for (int fd = 3; fd < 64; ++fd) {
    struct stat info {};
    if (::fstat(fd, &info) != 0 || !S_ISREG(info.st_mode)) continue;
    struct stat parent {};
    if (::stat(folder.path().c_str(), &parent) != 0 || info.st_dev != parent.st_dev) continue;
    for (const char* name : {"a", "b", "lock"}) {
      struct stat ours {};
      if (::stat((folder / name).c_str(), &ours) != 0 || ours.st_ino != info.st_ino) continue;
      ++seen;
      EXPECT_NE(::fcntl(fd, F_GETFD) & FD_CLOEXEC, 0) << name;
    }
  }
  EXPECT_EQ(seen, 4);
}

TEST(PosixFs, AFileCutShortWhileItIsReadIsAnError) {
  const TempDir folder;
  create_file(posix_fs(), folder / "a", "0123456789");
  const auto reader = posix_fs().open_read(folder / "a");
  ASSERT_EQ(::truncate((folder / "a").c_str(), 4), 0);
  std::string out(10, '\0');
  EXPECT_ERROR(reader->read_at(0, std::as_writable_bytes(std::span(out))), Code::corrupt,
               "at byte 4: the file was cut short while it was being read");
}

TEST(PosixFs, ThreadsWriteTheirOwnRangesOfOneFile) {
  constexpr std::size_t kBlock = 100'000;
  const TempDir folder;
  const auto file = posix_fs().create(folder / "a", {});
  std::vector<std::thread> threads;
  for (char letter = 'a'; letter < 'e'; ++letter) {
    threads.emplace_back([&file, letter] {
      const std::string block(kBlock, letter);
      file->write_at(static_cast<std::uint64_t>(letter - 'a') * kBlock, as_bytes(block));
    });
  }
  for (std::thread& thread : threads) thread.join();
  file->close();
  const std::string expected =
      std::string(kBlock, 'a') + std::string(kBlock, 'b') + std::string(kBlock, 'c') + std::string(kBlock, 'd');
  EXPECT_EQ(read_file(posix_fs(), folder / "a"), expected);
}

TEST(PosixFs, PermissionDeniedNamesPathAndAction) {
  const TempDir folder;
  create_file(posix_fs(), folder / "secret", "x");
  create_file(posix_fs(), folder / "public", "x");
  ASSERT_EQ(::chmod((folder / "secret").c_str(), 0), 0);
  ASSERT_EQ(::chmod(folder.path().c_str(), 0555), 0);
  {
    const Unprivileged user;
    EXPECT_ERROR(posix_fs().open_read(folder / "secret"), Code::io,
                 "secret: cannot open the file for reading: Permission denied");
    EXPECT_ERROR(posix_fs().create(folder / "new", {}), Code::io, "new: cannot create the file: Permission denied");
    EXPECT_ERROR(posix_fs().remove(folder / "public"), Code::io, "public: cannot remove the file: Permission denied");
    EXPECT_ERROR(posix_fs().rename(folder / "public", folder / "p"), Code::io,
                 "public' to this name: Permission denied");
    EXPECT_ERROR(posix_fs().make_directory(folder / "d"), Code::io, "d: cannot create the folder: Permission denied");
    EXPECT_ERROR(posix_fs().try_lock(folder / "lock", "note"), Code::io,
                 "cannot open the lock file: Permission denied");
  }
  ASSERT_EQ(::chmod(folder.path().c_str(), 0), 0);
  {
    const Unprivileged user;
    EXPECT_ERROR(posix_fs().status(folder / "public"), Code::io, "cannot read the file's status: Permission denied");
    EXPECT_ERROR(posix_fs().list(folder.path()), Code::io, "cannot open the folder: Permission denied");
    EXPECT_ERROR(posix_fs().sync_directory(folder.path()), Code::io,
                 "cannot open the folder to sync it: Permission denied");
  }
  ASSERT_EQ(::chmod(folder.path().c_str(), 0755), 0);
}

TEST(PosixFs, TheFileSizeLimitIsAnErrorNotTheEndOfTheProgram) {
  const TempDir folder;
  rlimit old{};
  ASSERT_EQ(::getrlimit(RLIMIT_FSIZE, &old), 0);
  rlimit small = old;
  small.rlim_cur = 1000;
  // Without the check the kernel sends SIGXFSZ, which ends this program.
  ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &small), 0);
  {
    const auto file = posix_fs().create(folder / "a", {});
    file->write_at(0, as_bytes(std::string(1000, 'x')));
    EXPECT_ERROR(file->write_at(999, as_bytes("xx")), Code::io, "at byte 999: cannot write 2 bytes: File too large");
    EXPECT_ERROR(file->reserve(1001), Code::io, "a: cannot reserve 1001 bytes: File too large");
    EXPECT_ERROR(file->write_at(~std::uint64_t{0}, as_bytes("xx")), Code::io, "File too large");
  }
  ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &old), 0);
}

TEST(PosixFs, ReservedSpaceIsTakenFromTheDiskWithoutWritingZeros) {
  const SmallDisk disk(1 << 20);
  if (!disk.mounted()) GTEST_SKIP() << disk.refusal();
  const std::uint64_t before = posix_fs().free_space(disk.path()).value();
  const auto file = posix_fs().create(disk / "a", {});
  ASSERT_TRUE(file->reserve(512 << 10));
  EXPECT_EQ(posix_fs().status(disk / "a")->size, 0U);
  EXPECT_LE(posix_fs().free_space(disk.path()).value(), before - (512 << 10));
  EXPECT_ERROR(posix_fs().create(disk / "b", {})->reserve(768 << 10), Code::io,
               "b: cannot reserve 786432 bytes: No space");
  file->write_at(0, as_bytes(std::string(512 << 10, 'x')));
}

TEST(PosixFs, AFullDiskFailsTheWrite) {
  const SmallDisk disk(1 << 20);
  if (!disk.mounted()) GTEST_SKIP() << disk.refusal();
  const auto file = posix_fs().create(disk / "a", {});
  EXPECT_ERROR(file->write_at(0, as_bytes(std::string(2 << 20, 'x'))), Code::io, "No space left on device");
}

TEST(PosixFs, KnowsTheFreeSpace) {
  const TempDir folder;
  EXPECT_EQ(posix_fs().free_space(folder.path()), std::filesystem::space(folder.path()).available);
}

}  // namespace
}  // namespace torchkeep
