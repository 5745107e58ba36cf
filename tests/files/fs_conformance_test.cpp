// SPDX-License-Identifier: BSD-3-Clause
// What every Fs promises, on the real file system and on the one in memory: the simulations are only as good as that.
#include <cerrno>
#include <gtest/gtest.h>
#include <memory>
#include <string>
#include <sys/stat.h>
#include <unistd.h>
#include <vector>

#include <torchkeep/files/fs.h>

#include "support/expect_error.h"
#include "support/memory_fs.h"
#include "support/ring_fs.h"
#include "support/temp_dir.h"
#include "support/whole_file.h"

namespace torchkeep {
namespace {

using torchkeep::testing::create_file;
using torchkeep::testing::MemoryFs;
using torchkeep::testing::read_file;
using torchkeep::testing::TempDir;

/// An Fs, a folder in it, and the one thing an Fs cannot do: make links.
class Ground {
 public:
  virtual ~Ground() = default;
  virtual Fs& fs() = 0;
  virtual std::string path(const std::string& name) const = 0;
  virtual void add_link(const std::string& name, const std::string& target) = 0;
};

class PosixGround final : public Ground {
 public:
  PosixGround() : umask_(::umask(022)) {}
  ~PosixGround() override { ::umask(umask_); }
  Fs& fs() override { return posix_fs(); }
  std::string path(const std::string& name) const override { return folder_ / name; }
  void add_link(const std::string& name, const std::string& target) override {
    ASSERT_EQ(::symlink(target.c_str(), path(name).c_str()), 0);
  }

 private:
  mode_t umask_;
  TempDir folder_;
};

class MemoryGround final : public Ground {
 public:
  MemoryGround() { memory_.make_directory("/ground"); }
  Fs& fs() override { return memory_; }
  std::string path(const std::string& name) const override { return "/ground/" + name; }
  void add_link(const std::string& name, const std::string& target) override { memory_.add_link(path(name), target); }

 private:
  MemoryFs memory_;
};

/// The one in memory, whose new files are written through a ring of blocks.
class RingGround final : public Ground {
 public:
  Fs& fs() override { return ring_; }
  std::string path(const std::string& name) const override { return memory_.path(name); }
  void add_link(const std::string& name, const std::string& target) override { memory_.add_link(name, target); }

 private:
  MemoryGround memory_;
  torchkeep::testing::RingFs ring_{memory_.fs()};
};

using MakeGround = std::unique_ptr<Ground> (*)();

class EveryFs : public ::testing::TestWithParam<MakeGround> {
 protected:
  Fs& fs() { return ground_->fs(); }
  std::string path(const std::string& name) const { return ground_->path(name); }
  Ground& ground() { return *ground_; }
  void add(const std::string& name, std::string_view text) { create_file(fs(), path(name), text); }
  std::string text(const std::string& name) { return read_file(fs(), path(name)); }

  /// errno of the Error that `act` throws; -1 when it throws none.
  template <class Act>
  static int system_error(Act act) {
    try {
      act();
    } catch (const Error& error) {
      return error.system_error();
    }
    return -1;
  }

 private:
  std::unique_ptr<Ground> ground_ = GetParam()();
};

INSTANTIATE_TEST_SUITE_P(
    Fs, EveryFs,
    ::testing::Values(MakeGround([]() -> std::unique_ptr<Ground> { return std::make_unique<PosixGround>(); }),
                      MakeGround([]() -> std::unique_ptr<Ground> { return std::make_unique<MemoryGround>(); }),
                      MakeGround([]() -> std::unique_ptr<Ground> { return std::make_unique<RingGround>(); })),
    [](const auto& info) { return info.index == 0   ? "Posix"
                                  : info.index == 1 ? "Memory"
                                                    : "Ring"; });

TEST_P(EveryFs, GivesBackWhatWasWrittenInAnyOrder) {
  const auto file = fs().create(path("a"), {});
  file->write_at(6, as_bytes("world"));
  file->write_at(0, as_bytes("hello "));
  file->close();
  EXPECT_EQ(text("a"), "hello world");
  EXPECT_EQ(file->path(), path("a"));
}

TEST_P(EveryFs, ReadsZerosFromAGap) {
  fs().create(path("a"), {})->write_at(3, as_bytes("x"));
  EXPECT_EQ(text("a"), std::string("\0\0\0x", 4));
}

TEST_P(EveryFs, WritingNothingChangesNothing) {
  fs().create(path("a"), {})->write_at(100, {});
  EXPECT_EQ(text("a"), "");
}

TEST_P(EveryFs, RefusesToWriteToAClosedFile) {
  const auto file = fs().create(path("a"), {});
  file->close();
  file->close();
  EXPECT_EQ(system_error([&] { file->write_at(0, as_bytes("x")); }), EBADF);
  EXPECT_EQ(system_error([&] { file->sync(); }), EBADF);
}

TEST_P(EveryFs, ReservingDoesNotChangeTheLength) {
  const auto file = fs().create(path("a"), {});
  file->reserve(100'000);
  file->write_at(0, as_bytes("ab"));
  file->sync();
  file->close();
  EXPECT_EQ(fs().status(path("a"))->size, 2U);
}

TEST_P(EveryFs, CreateIsExclusive) {
  add("a", "old");
  EXPECT_EQ(system_error([&] { fs().create(path("a"), {}); }), EEXIST);
  EXPECT_EQ(text("a"), "old");
}

TEST_P(EveryFs, CreateDoesNotFollowALink) {
  ground().add_link("link", "nowhere");
  EXPECT_EQ(system_error([&] { fs().create(path("link"), {}); }), EEXIST);
}

TEST_P(EveryFs, CreateHonoursTheUmaskUnlessToldTheExactMode) {
  fs().create(path("usual"), {.mode = 0666, .exact_mode = false});
  fs().create(path("exact"), {.mode = 0666, .exact_mode = true});
  fs().create(path("private"), {.mode = 0600, .exact_mode = true});
  EXPECT_EQ(fs().status(path("usual"))->mode, 0644U);
  EXPECT_EQ(fs().status(path("exact"))->mode, 0666U);
  EXPECT_EQ(fs().status(path("private"))->mode, 0600U);
}

TEST_P(EveryFs, OpenWriteKeepsWhatIsThereAndCreatesWhatIsNot) {
  add("a", "0123456789");
  fs().open_write(path("a"))->write_at(2, as_bytes("ab"));
  EXPECT_EQ(text("a"), "01ab456789");
  fs().open_write(path("new"))->write_at(0, as_bytes("x"));
  EXPECT_EQ(text("new"), "x");
  EXPECT_EQ(fs().status(path("new"))->mode, 0644U);
}

TEST_P(EveryFs, ReadsOnlyWithinTheFile) {
  add("a", "0123456789");
  const auto file = fs().open_read(path("a"));
  EXPECT_EQ(file->size(), 10U);
  EXPECT_EQ(file->name(), path("a"));
  std::string out(4, '\0');
  const auto buffer = std::as_writable_bytes(std::span(out));
  file->read_at(6, buffer);
  EXPECT_EQ(out, "6789");
  EXPECT_ERROR(file->read_at(7, buffer), Code::corrupt, path("a") + " at byte 7");
  EXPECT_ERROR(file->read_at(~std::uint64_t{0}, buffer), Code::corrupt, path("a"));
  file->read_at(10, {});
}

TEST_P(EveryFs, RenameReplacesAtOnceAndAnOpenReaderKeepsTheOldFile) {
  add("a", "old");
  add("b", "new");
  const auto reader = fs().open_read(path("a"));
  fs().rename(path("b"), path("a"));
  EXPECT_EQ(text("a"), "new");
  EXPECT_FALSE(fs().status(path("b")));
  std::string out(3, '\0');
  reader->read_at(0, std::as_writable_bytes(std::span(out)));
  EXPECT_EQ(out, "old");
}

TEST_P(EveryFs, RenameReplacesALinkNotItsTarget) {
  add("target", "old");
  add("b", "new");
  ground().add_link("link", "target");
  fs().rename(path("b"), path("link"));
  EXPECT_EQ(text("target"), "old");
  EXPECT_EQ(text("link"), "new");
  EXPECT_FALSE(fs().read_link(path("link")));
}

TEST_P(EveryFs, RenameMovesBetweenFolders) {
  fs().make_directory(path("d"));
  add("a", "text");
  fs().rename(path("a"), path("d/b"));
  EXPECT_EQ(text("d/b"), "text");
  EXPECT_EQ(fs().list(path("")), std::vector<std::string>{"d"});
}

TEST_P(EveryFs, RenameMovesAFolderWithWhatIsInIt) {
  fs().make_directory(path("d"));
  add("d/a", "text");
  fs().rename(path("d"), path("e"));
  EXPECT_EQ(text("e/a"), "text");
  EXPECT_FALSE(fs().status(path("d")));
}

TEST_P(EveryFs, AFolderReplacesNothingButAnEmptyFolder) {
  for (const char* const name : {"d", "full", "empty"}) fs().make_directory(path(name));
  add("d/a", "text");
  add("full/b", "kept");
  add("file", "kept");
  EXPECT_EQ(system_error([&] { fs().rename(path("d"), path("full")); }), ENOTEMPTY);
  EXPECT_EQ(system_error([&] { fs().rename(path("d"), path("file")); }), ENOTDIR);
  EXPECT_EQ(text("full/b"), "kept");
  EXPECT_EQ(text("file"), "kept");
  fs().rename(path("d"), path("empty"));
  EXPECT_EQ(text("empty/a"), "text");
}

TEST_P(EveryFs, RemoveDirectoryRemovesAnEmptyFolderOnly) {
  fs().make_directory(path("d"));
  add("d/a", "text");
  EXPECT_EQ(system_error([&] { fs().remove_directory(path("d")); }), ENOTEMPTY);
  EXPECT_EQ(system_error([&] { fs().remove_directory(path("d/a")); }), ENOTDIR);
  fs().remove(path("d/a"));
  fs().remove_directory(path("d"));
  EXPECT_FALSE(fs().status(path("d")));
  EXPECT_EQ(system_error([&] { fs().remove_directory(path("d")); }), ENOENT);
}

TEST_P(EveryFs, RemovesALinkNotItsTarget) {
  add("target", "text");
  ground().add_link("link", "target");
  fs().remove(path("link"));
  EXPECT_EQ(text("target"), "text");
  EXPECT_EQ(fs().list(path("")), std::vector<std::string>{"target"});
}

TEST_P(EveryFs, WhatDoesNotExistIsNotFound) {
  const std::string none = path("none");
  EXPECT_ERROR(fs().open_read(none), Code::not_found, none + ": cannot open the file for reading");
  EXPECT_ERROR(fs().rename(none, path("a")), Code::not_found, "cannot rename");
  EXPECT_ERROR(fs().remove(none), Code::not_found, none + ": cannot remove the file");
  EXPECT_ERROR(fs().list(none), Code::not_found, none);
  EXPECT_ERROR(fs().sync_directory(none), Code::not_found, none);
  EXPECT_ERROR(fs().create(none + "/a", {}), Code::not_found, none + "/a: cannot create the file");
  EXPECT_ERROR(fs().make_directory(none + "/a"), Code::not_found, none + "/a: cannot create the folder");
  EXPECT_ERROR(fs().open_read(""), Code::not_found, "cannot open");
  EXPECT_FALSE(fs().status(none));
  EXPECT_FALSE(fs().status(none + "/a"));
}

TEST_P(EveryFs, AFolderInsteadOfAFileIsAClearError) {
  fs().make_directory(path("d"));
  const std::string message = path("d") + ": expected a file, found a folder";
  EXPECT_ERROR(fs().open_read(path("d")), Code::invalid_argument, message);
  EXPECT_ERROR(fs().open_write(path("d")), Code::invalid_argument, message);
  add("a", "x");
  EXPECT_EQ(system_error([&] { fs().rename(path("a"), path("d")); }), EISDIR);
  EXPECT_EQ(system_error([&] { fs().remove(path("d")); }), EISDIR);
}

TEST_P(EveryFs, AFileInsteadOfAFolderIsAClearError) {
  add("a", "x");
  EXPECT_EQ(system_error([&] { fs().list(path("a")); }), ENOTDIR);
  EXPECT_EQ(system_error([&] { fs().sync_directory(path("a")); }), ENOTDIR);
  EXPECT_EQ(system_error([&] { fs().create(path("a/b"), {}); }), ENOTDIR);
  EXPECT_EQ(system_error([&] { fs().make_directory(path("a")); }), EEXIST);
  EXPECT_FALSE(fs().status(path("a/b")));
}

TEST_P(EveryFs, MakeDirectorySaysWhetherItWasThere) {
  EXPECT_TRUE(fs().make_directory(path("d")));
  EXPECT_FALSE(fs().make_directory(path("d")));
  EXPECT_EQ(fs().status(path("d"))->kind, FileKind::directory);
  EXPECT_EQ(fs().status(path("d"))->mode, 0755U);
}

TEST_P(EveryFs, ListsNamesInOrderWithoutTheDots) {
  for (const char* name : {"b", "a", ".hidden", "C"}) add(name, "");
  EXPECT_EQ(fs().list(path("")), (std::vector<std::string>{".hidden", "C", "a", "b"}));
}

TEST_P(EveryFs, StatusFollowsLinksAndReadLinkDoesNot) {
  add("a", "12345");
  ground().add_link("link", "a");
  ground().add_link("dangling", "nowhere");
  ground().add_link("loop", "loop");
  EXPECT_EQ(fs().status(path("link"))->size, 5U);
  EXPECT_EQ(fs().status(path("link"))->kind, FileKind::regular);
  EXPECT_FALSE(fs().status(path("dangling")));
  EXPECT_EQ(system_error([&] { fs().status(path("loop")); }), ELOOP);
  EXPECT_EQ(fs().read_link(path("link")), "a");
  EXPECT_EQ(fs().read_link(path("dangling")), "nowhere");
  EXPECT_FALSE(fs().read_link(path("a")));
  EXPECT_FALSE(fs().read_link(path("none")));
}

TEST_P(EveryFs, ReadsLinksOfAnyLength) {
  std::string target;
  while (target.size() < 700) target += "./";
  ground().add_link("link", target + "a");
  EXPECT_EQ(fs().read_link(path("link")), target + "a");
}

TEST_P(EveryFs, PathsGoThroughLinksToFolders) {
  fs().make_directory(path("d"));
  ground().add_link("up", "d/../d");
  add("up/a", "x");
  EXPECT_EQ(text("d/a"), "x");
  EXPECT_EQ(text("d/../up/./a"), "x");
}

TEST_P(EveryFs, ANameTooLongIsAnError) {
  const std::string name(256, 'n');
  EXPECT_EQ(system_error([&] { fs().create(path(name), {}); }), ENAMETOOLONG);
  EXPECT_EQ(system_error([&] { fs().status(path(name)); }), ENAMETOOLONG);
}

TEST_P(EveryFs, ASecondLockInTheSameProcessIsRefused) {
  LockAttempt first = fs().try_lock(path("lock"), "mine");
  ASSERT_TRUE(first.lock);
  first.lock->confirm();
  const LockAttempt second = fs().try_lock(path("lock"), "yours");
  EXPECT_FALSE(second.lock);
  EXPECT_EQ(second.holder_pid, ::getpid());
  EXPECT_EQ(second.holder_note, "mine");
  EXPECT_EQ(text("lock"), "mine");
  first.lock.reset();
  EXPECT_TRUE(fs().try_lock(path("lock"), "yours").lock);
}

TEST_P(EveryFs, ALockWhoseFileWasDeletedIsNotConfirmed) {
  const LockAttempt held = fs().try_lock(path("lock"), "mine");
  fs().remove(path("lock"));
  EXPECT_ERROR(held.lock->confirm(), Code::busy, "deleted or replaced");
}

}  // namespace
}  // namespace torchkeep
