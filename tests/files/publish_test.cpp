// SPDX-License-Identifier: BSD-3-Clause
// The rules of publish(): names, modes, links, folders, space, and what is left after a failure.
#include <cerrno>
#include <gtest/gtest.h>
#include <stdexcept>
#include <string>
#include <sys/stat.h>
#include <unistd.h>
#include <vector>

#include <torchkeep/files/publish.h>

#include "support/expect_error.h"
#include "support/fault_fs.h"
#include "support/memory_fs.h"
#include "support/small_disk.h"
#include "support/temp_dir.h"
#include "support/unprivileged.h"
#include "support/whole_file.h"

namespace torchkeep {
namespace {

using torchkeep::testing::create_file;
using torchkeep::testing::Disk;
using torchkeep::testing::FaultFs;
using torchkeep::testing::MemoryFs;
using torchkeep::testing::MemoryFsSettings;
using torchkeep::testing::read_file;
using torchkeep::testing::SmallDisk;
using torchkeep::testing::TempDir;
using torchkeep::testing::Unprivileged;
using Names = std::vector<std::string>;

MemoryFs small_memory(std::uint64_t capacity, bool reserves) {
  return MemoryFs(Disk{}, {.capacity = capacity, .reserves = reserves});
}

TEST(Publish, CreatesTheFileAndNothingElse) {
  MemoryFs fs;
  publish(fs, "/a.pt", as_bytes("text"));
  EXPECT_EQ(read_file(fs, "/a.pt"), "text");
  EXPECT_EQ(fs.list("/"), Names{"a.pt"});
}

TEST(Publish, ReplacesTheWholeFile) {
  MemoryFs fs;
  create_file(fs, "/a.pt", "a long old text");
  publish(fs, "/a.pt", as_bytes("new"));
  EXPECT_EQ(read_file(fs, "/a.pt"), "new");
  EXPECT_EQ(fs.list("/"), Names{"a.pt"});
}

TEST(Publish, TakesABareNameInTheCurrentFolder) {
  MemoryFs fs;
  publish(fs, "a.pt", as_bytes("text"));
  EXPECT_EQ(fs.list("/"), Names{"a.pt"});
}

TEST(Publish, ShowsTheOldFileUntilTheNewOneIsComplete) {
  MemoryFs fs;
  create_file(fs, "/a.pt", "old");
  publish(fs, "/a.pt", [&](File& file) {
    file.write_at(0, as_bytes("ne"));
    EXPECT_EQ(read_file(fs, "/a.pt"), "old");
    file.write_at(2, as_bytes("w"));
  });
  EXPECT_EQ(read_file(fs, "/a.pt"), "new");
}

TEST(Publish, FillsAHiddenSiblingThatCanBeRecognised) {
  MemoryFs fs;
  fs.make_directory("/runs");
  publish(fs, "/runs/a.pt", [&](File& file) {
    const Names names = fs.list("/runs");
    ASSERT_EQ(names.size(), 1U);
    EXPECT_EQ(file.path(), "/runs/" + names[0]);
    EXPECT_TRUE(names[0].starts_with(".a.pt.tmp-" + std::to_string(::getpid()) + "-")) << names[0];
    EXPECT_TRUE(is_temporary_name(names[0]));
  });
}

TEST(Publish, FollowsTheStepsInTheirOrder) {
  MemoryFs memory;
  FaultFs fs(memory, {});
  std::string temporary;
  publish(fs, "/a.pt", [&](File& file) {
    temporary = file.path();
    file.write_at(0, as_bytes("text"));
  });
  const Names steps = {"create " + temporary, "write 4 bytes " + temporary,        "sync " + temporary,
                       "close " + temporary,  "rename " + temporary + " -> /a.pt", "sync the folder /"};
  Names calls = fs.calls();
  std::erase_if(calls, [](const std::string& call) { return call.starts_with("read the"); });
  EXPECT_EQ(calls, steps);
}

TEST(Publish, WithoutDurableDoesNotSync) {
  MemoryFs memory;
  FaultFs fs(memory, {});
  publish(fs, "/a.pt", as_bytes("text"), {.durable = false});
  for (const std::string& call : fs.calls()) EXPECT_FALSE(call.starts_with("sync")) << call;
  EXPECT_EQ(read_file(memory, "/a.pt"), "text");
}

TEST(Publish, NewFilesHonourTheUmask) {
  const TempDir folder;
  for (const mode_t mask : {022U, 077U, 002U}) {
    const mode_t old = ::umask(mask);
    const std::string path = folder / (std::string("a") + std::to_string(mask));
    publish(posix_fs(), path, as_bytes("text"));
    ::umask(old);
    EXPECT_EQ(posix_fs().status(path)->mode, 0666U & ~mask);
  }
}

TEST(Publish, KeepsTheModeOfAReplacedFile) {
  const TempDir folder;
  const mode_t old = ::umask(022);
  for (const mode_t mode : {0600U, 0640U, 0666U, 0755U, 0444U}) {
    const std::string path = folder / (std::string("a") + std::to_string(mode));
    create_file(posix_fs(), path, "old");
    ASSERT_EQ(::chmod(path.c_str(), mode), 0);
    publish(posix_fs(), path, as_bytes("new"));
    EXPECT_EQ(posix_fs().status(path)->mode, mode);
    EXPECT_EQ(read_file(posix_fs(), path), "new");
  }
  ::umask(old);
}

TEST(Publish, ThePrivateFilesSuccessorIsNeverReadableByOthers) {
  const TempDir folder;
  create_file(posix_fs(), folder / "a", "old");
  ASSERT_EQ(::chmod((folder / "a").c_str(), 0600), 0);
  publish(posix_fs(), folder / "a", [](File& file) { EXPECT_EQ(posix_fs().status(file.path())->mode, 0600U); });
}

TEST(Publish, ReplacesTheTargetOfALinkAndKeepsTheLink) {
  const TempDir folder;
  ASSERT_TRUE(posix_fs().make_directory(folder / "data"));
  create_file(posix_fs(), folder / "data/real.pt", "old");
  ASSERT_EQ(::chmod((folder / "data/real.pt").c_str(), 0640), 0);
  ASSERT_EQ(::symlink("data/real.pt", (folder / "second.pt").c_str()), 0);
  ASSERT_EQ(::symlink((folder / "second.pt").c_str(), (folder / "first.pt").c_str()), 0);
  publish(posix_fs(), folder / "first.pt", as_bytes("new"));
  EXPECT_EQ(posix_fs().read_link(folder / "first.pt"), folder / "second.pt");
  EXPECT_EQ(posix_fs().read_link(folder / "second.pt"), "data/real.pt");
  EXPECT_EQ(read_file(posix_fs(), folder / "data/real.pt"), "new");
  EXPECT_EQ(posix_fs().status(folder / "data/real.pt")->mode, 0640U);
  EXPECT_EQ(posix_fs().list(folder / "data"), Names{"real.pt"});
}

TEST(Publish, CreatesTheTargetOfADanglingLink) {
  MemoryFs fs;
  fs.make_directory("/data");
  fs.add_link("/a.pt", "data/real.pt");
  publish(fs, "/a.pt", as_bytes("text"));
  EXPECT_EQ(read_file(fs, "/data/real.pt"), "text");
  EXPECT_EQ(fs.read_link("/a.pt"), "data/real.pt");
}

TEST(Publish, ALoopOfLinksIsAnError) {
  MemoryFs fs;
  fs.add_link("/a.pt", "b.pt");
  fs.add_link("/b.pt", "a.pt");
  EXPECT_ERROR(publish(fs, "/a.pt", as_bytes("text")), Code::io, "/a.pt: cannot follow the links");
}

TEST(Publish, AMissingFolderIsAnErrorThatSaysSo) {
  MemoryFs fs;
  EXPECT_ERROR(publish(fs, "/runs/a.pt", as_bytes("text")), Code::not_found,
               "/runs/a.pt: the folder '/runs' does not exist; create it first");
  EXPECT_ERROR(publish(posix_fs(), "/nonexistent/runs/a.pt", as_bytes("text")), Code::not_found,
               "the folder '/nonexistent/runs' does not exist");
}

TEST(Publish, AFileInsteadOfTheFolderIsAnErrorThatSaysSo) {
  MemoryFs fs;
  create_file(fs, "/runs", "text");
  EXPECT_ERROR(publish(fs, "/runs/a.pt", as_bytes("text")), Code::invalid_argument,
               "/runs/a.pt: '/runs' is not a folder");
}

TEST(Publish, RefusesWhatIsNotAFile) {
  const TempDir folder;
  ASSERT_EQ(::mkfifo((folder / "pipe").c_str(), 0600), 0);
  EXPECT_ERROR(publish(posix_fs(), folder.path(), as_bytes("text")), Code::invalid_argument,
               folder.path() + ": expected a file, found a folder");
  EXPECT_ERROR(publish(posix_fs(), folder / "new/", as_bytes("text")), Code::invalid_argument, "found a folder");
  EXPECT_ERROR(publish(posix_fs(), "/dev/null", as_bytes("text")), Code::invalid_argument, "/dev/null: a device");
  EXPECT_ERROR(publish(posix_fs(), folder / "pipe", as_bytes("text")), Code::invalid_argument, "pipe: a device");
  EXPECT_ERROR(publish(posix_fs(), "", as_bytes("text")), Code::invalid_argument, "empty");
  EXPECT_EQ(posix_fs().list(folder.path()), Names{"pipe"});
}

TEST(Publish, AFolderThatMayNotBeWrittenIsAnErrorAndTheFileStays) {
  const TempDir folder;
  create_file(posix_fs(), folder / "a", "old");
  ASSERT_EQ(::chmod(folder.path().c_str(), 0555), 0);
  {
    const Unprivileged user;
    EXPECT_ERROR(publish(posix_fs(), folder / "a", as_bytes("new")), Code::io,
                 folder / "a: cannot create the file: Permission denied (a temporary file in '" + folder.path());
  }
  ASSERT_EQ(::chmod(folder.path().c_str(), 0755), 0);
  EXPECT_EQ(read_file(posix_fs(), folder / "a"), "old");
}

TEST(Publish, NamesAsLongAsTheFileSystemTakesWork) {
  const TempDir folder;
  const std::string name = std::string(252, 'n') + ".pt";
  publish(posix_fs(), folder / name, [&](File&) {
    const Names names = posix_fs().list(folder.path());
    ASSERT_EQ(names.size(), 1U);
    EXPECT_TRUE(is_temporary_name(names[0])) << names[0];
  });
  EXPECT_EQ(posix_fs().list(folder.path()), Names{name});
}

TEST(Publish, ANameTooLongForTheFileSystemIsFoundBeforeTheWork) {
  const TempDir folder;
  bool filled = false;
  EXPECT_ERROR(publish(posix_fs(), folder / std::string(256, 'n'), [&](File&) { filled = true; }), Code::io,
               "File name too long");
  EXPECT_FALSE(filled);
}

TEST(Publish, StepsAsideForTemporaryFilesThatAreThere) {
  MemoryFs fs;
  std::string next;
  publish(fs, "/probe", [&](File& file) { next = file.path(); });
  const std::size_t dash = next.rfind('-');
  const int number = std::stoi(next.substr(dash + 1));
  const std::string prefix = "/.a.pt.tmp-" + std::to_string(::getpid()) + "-";
  for (int i = 1; i <= 20; ++i) create_file(fs, prefix + std::to_string(number + i), "another's");
  publish(fs, "/a.pt", as_bytes("text"));
  EXPECT_EQ(read_file(fs, "/a.pt"), "text");
  for (int i = 1; i <= 20; ++i) EXPECT_EQ(read_file(fs, prefix + std::to_string(number + i)), "another's");
}

TEST(Publish, AnyExceptionOfTheFillerLeavesTheOldFileAndNoTemporaryOne) {
  MemoryFs fs;
  create_file(fs, "/a.pt", "old");
  const auto fail = [](File& file) {
    file.write_at(0, as_bytes("ne"));
    throw std::runtime_error("the filler's own");
  };
  EXPECT_THROW(publish(fs, "/a.pt", fail), std::runtime_error);
  EXPECT_EQ(read_file(fs, "/a.pt"), "old");
  EXPECT_EQ(fs.list("/"), Names{"a.pt"});
}

TEST(Publish, AnErrorAboutWhatTheFillerReadsPassesUnchanged) {
  MemoryFs fs;
  const auto fail = [](File&) {
    throw Error(Code::corrupt, "wrong CRC", {.file = "/source.pt", .record = "data/0", .offset = {}, .key = {}});
  };
  EXPECT_ERROR(publish(fs, "/a.pt", fail), Code::corrupt, "/source.pt: data/0: wrong CRC");
}

TEST(Publish, AnErrorNamesTheFileThatWasAskedFor) {
  MemoryFs memory;
  create_file(memory, "/a.pt", "old");
  FaultFs fs(memory, {.call = 5, .error = EIO, .when = torchkeep::testing::Fault::When::before});
  const auto fill = [](File& file) { file.write_at(0, as_bytes("text")); };
  EXPECT_ERROR(publish(fs, "/a.pt", fill), Code::io,
               "/a.pt: cannot write 4 bytes: Input/output error; the file that was there is unchanged");
  EXPECT_EQ(fs.calls().at(4).substr(0, 5), "write");
}

TEST(Publish, FindsALackOfSpaceBeforeFillingAndSaysTheNumbers) {
  for (const bool reserves : {true, false}) {
    MemoryFs fs = small_memory(1000, reserves);
    create_file(fs, "/a.pt", std::string(400, 'o'));
    bool filled = false;
    EXPECT_ERROR(publish(fs, "/a.pt", [&](File&) { filled = true; }, {.size = 700}), Code::io,
                 "No space left on device; 700 bytes needed; 600 bytes free; the file that was there is unchanged");
    EXPECT_FALSE(filled);
    EXPECT_EQ(read_file(fs, "/a.pt"), std::string(400, 'o'));
    EXPECT_EQ(fs.list("/"), Names{"a.pt"});
  }
}

TEST(Publish, SavesWhatExactlyFits) {
  for (const bool reserves : {true, false}) {
    MemoryFs fs = small_memory(1000, reserves);
    create_file(fs, "/a.pt", std::string(400, 'o'));
    publish(fs, "/a.pt", as_bytes(std::string(600, 'n')));
    EXPECT_EQ(read_file(fs, "/a.pt"), std::string(600, 'n'));
  }
}

TEST(Publish, ADiskThatFillsUpLeavesTheOldFileAndNoTemporaryOne) {
  const SmallDisk disk(1 << 20);
  if (!disk.mounted()) GTEST_SKIP() << disk.refusal();
  const std::string old(300'000, 'o');
  create_file(posix_fs(), disk / "a.pt", old);
  const std::string block(100'000, 'n');
  const auto fill = [&](File& file) {
    for (std::uint64_t i = 0; i < 20; ++i) file.write_at(i * block.size(), as_bytes(block));
  };
  EXPECT_ERROR(publish(posix_fs(), disk / "a.pt", fill), Code::io, "No space left on device; ");
  EXPECT_ERROR(publish(posix_fs(), disk / "a.pt", fill, {.size = 2'000'000}), Code::io,
               "cannot reserve 2000000 bytes: No space left on device; 2000000 bytes needed; ");
  EXPECT_EQ(read_file(posix_fs(), disk / "a.pt"), old);
  EXPECT_EQ(posix_fs().list(disk.path()), Names{"a.pt"});
  publish(posix_fs(), disk / "a.pt", as_bytes(block));
  EXPECT_EQ(read_file(posix_fs(), disk / "a.pt"), block);
}

TEST(TemporaryNames, AreToldFromAllOthers) {
  for (const char* name : {".a.pt.tmp-1-0", ".tmp-4711-12", ".a.tmp-1-2.tmp-3-4", "..tmp-1-0"}) {
    EXPECT_TRUE(is_temporary_name(name)) << name;
  }
  for (const char* name : {"a.pt", "a.pt.tmp-1-0", ".a.pt", ".a.pt.tmp-", ".a.pt.tmp-1", ".a.pt.tmp-1-", ".a.pt.tmp--1",
                           ".a.pt.tmp-1-0.pt", ".a.pt.tmp-x-0", ".a.pt.tmp-1-2-3", ".tmp", "", "."}) {
    EXPECT_FALSE(is_temporary_name(name)) << name;
  }
}

TEST(TemporaryNames, AreRemovedAndNothingElseIs) {
  MemoryFs fs;
  for (const char* name : {"/a.pt", "/.a.pt.tmp-1-0", "/.tmp-2-0", "/.hidden", "/run.lock"}) create_file(fs, name, "x");
  EXPECT_EQ(remove_temporaries(fs, "/"), 2U);
  EXPECT_EQ(fs.list("/"), (Names{".hidden", "a.pt", "run.lock"}));
}

TEST(MakeDirectories, CreatesWhatIsMissingAndSyncsEachIntoItsParent) {
  MemoryFs memory;
  memory.make_directory("/a");
  FaultFs fs(memory, {});
  make_directories(fs, "/a/b/c/");
  EXPECT_EQ(memory.status("/a/b/c")->kind, FileKind::directory);
  Names calls = fs.calls();
  std::erase_if(calls, [](const std::string& call) { return call.starts_with("read"); });
  EXPECT_EQ(calls, (Names{"create the folder /a/b", "sync the folder /a", "create the folder /a/b/c",
                          "sync the folder /a/b"}));
}

TEST(MakeDirectories, IsContentWithWhatIsThere) {
  MemoryFs fs;
  make_directories(fs, "runs/a");
  make_directories(fs, "runs/a");
  EXPECT_EQ(fs.status("/runs/a")->kind, FileKind::directory);
}

TEST(MakeDirectories, RefusesAFileInTheWay) {
  MemoryFs fs;
  create_file(fs, "/a", "x");
  EXPECT_ERROR(make_directories(fs, "/a"), Code::invalid_argument, "/a: a file stands where a folder is wanted");
  EXPECT_ERROR(make_directories(fs, "/a/b"), Code::invalid_argument, "/a: a file stands where a folder is wanted");
  EXPECT_ERROR(make_directories(fs, ""), Code::invalid_argument, "empty");
}

}  // namespace
}  // namespace torchkeep
