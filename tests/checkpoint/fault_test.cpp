// SPDX-License-Identifier: BSD-3-Clause
// What can go wrong around save and load: one clear error each, and the old file is never lost.
#include <filesystem>
#include <gtest/gtest.h>

#include <torchkeep/torchkeep.h>

#include "support/expect_error.h"
#include "support/fault_fs.h"
#include "support/memory_fs.h"
#include "support/ring_fs.h"
#include "support/small_disk.h"
#include "support/temp_dir.h"
#include "support/unprivileged.h"

namespace torchkeep {
namespace {

using testing::FaultFs;
using testing::MemoryFs;
using testing::SmallDisk;
using testing::TempDir;
using testing::Unprivileged;

Value state(int epoch) {
  return {{"epoch", epoch},
          {"weight", Tensor::from_bytes(DType::uint8, {3'000'000}, as_bytes(std::string(3'000'000, 'w')))}};
}

// Every call a save makes fails once, before or after it was done: the file is the old or the new one, whole.
void every_call_fails_once(int error, testing::Fault::When when, bool through_ring = false) {
  for (std::size_t call = 1;; ++call) {
    MemoryFs disk;
    save(state(1), "a.pt", {.fs = &disk});
    FaultFs fs(disk, {.call = call, .error = error, .when = when});
    bool failed = false;
    try {
      testing::RingFs ring(fs, {.block_size = 1 << 20, .alignment = 4096});
      save(state(2), "a.pt", {.fs = through_ring ? static_cast<Fs*>(&ring) : &fs});
    } catch (const Error& found) {
      failed = true;
      EXPECT_EQ(found.system_error(), error) << "call " << call << ": " << found.what();
      EXPECT_NE(std::string(found.what()).find("a.pt"), std::string::npos) << found.what();
    }
    const Value left = load("a.pt", {.fs = &disk});
    EXPECT_TRUE(left == state(1) || left == state(2)) << "call " << call;
    EXPECT_TRUE(failed || left == state(2)) << "call " << call << " failed in silence, and the new file is not there";
    if (!fs.happened()) break;
  }
}

TEST(SaveFaults, AFullDiskLeavesTheOldFile) {
  every_call_fails_once(ENOSPC, testing::Fault::When::before);
  every_call_fails_once(ENOSPC, testing::Fault::When::halfway);
  every_call_fails_once(ENOSPC, testing::Fault::When::before, true);
  every_call_fails_once(ENOSPC, testing::Fault::When::halfway, true);
}

TEST(SaveFaults, AnIoErrorLeavesTheOldFileOrTheNew) {
  every_call_fails_once(EIO, testing::Fault::When::after);
  every_call_fails_once(EIO, testing::Fault::When::after, true);
}

TEST(SaveFaults, LeavesNoTemporaryFileBehind) {
  MemoryFs disk(testing::Disk{}, {.capacity = 4'000'000});
  save(state(1), "a.pt", {.fs = &disk});
  EXPECT_ERROR(save(state(2), "a.pt", {.fs = &disk}), Code::io, "a.pt");
  EXPECT_EQ(disk.list("/"), std::vector<std::string>{"a.pt"});
  EXPECT_TRUE(load("a.pt", {.fs = &disk}) == state(1));
}

TEST(SaveFaults, ARealDiskThatIsFullKeepsTheOldFile) {
  const SmallDisk disk(4 << 20);
  if (!disk.mounted()) GTEST_SKIP() << disk.refusal();
  save(state(1), disk / "a.pt");
  for (const auto path : {WritePath::direct, WritePath::uncached, WritePath::page_cache}) {
    EXPECT_ERROR(save(state(2), disk / "a.pt", {.write_path = path}), Code::io, "a.pt");
    EXPECT_TRUE(load(disk / "a.pt") == state(1));
  }
}

TEST(SaveFaults, AMissingFolderIsNamed) {
  const TempDir folder;
  EXPECT_ERROR(save(state(1), folder / "no/such/a.pt"), Code::not_found, folder / "no/such");
}

TEST(SaveFaults, AFolderIsNotReplaced) {
  const TempDir folder;
  std::filesystem::create_directory(folder / "a.pt");
  EXPECT_ERROR(save(state(1), folder / "a.pt"), Code::invalid_argument, folder / "a.pt");
  EXPECT_TRUE(std::filesystem::is_directory(folder / "a.pt"));
}

TEST(SaveFaults, AFolderWithoutPermissionIsAnError) {
  const TempDir folder;
  std::filesystem::permissions(folder.path(), std::filesystem::perms::owner_read | std::filesystem::perms::owner_exec);
  {
    const Unprivileged nobody;
    EXPECT_ERROR(save(state(1), folder / "a.pt"), Code::io, "ermission denied");
  }
  std::filesystem::permissions(folder.path(), std::filesystem::perms::owner_all);
}

TEST(LoadFaults, AMissingFileIsNamed) {
  const TempDir folder;
  EXPECT_ERROR(load(folder / "a.pt"), Code::not_found, folder / "a.pt");
}

TEST(LoadFaults, AFolderIsNotAFile) {
  const TempDir folder;
  EXPECT_ERROR(load(folder.path()), Code::invalid_argument, folder.path());
}

TEST(LoadFaults, AFileWithoutPermissionIsAnError) {
  const TempDir folder;
  std::filesystem::permissions(folder.path(), std::filesystem::perms::all);
  save(state(1), folder / "a.pt");
  std::filesystem::permissions(folder / "a.pt", std::filesystem::perms::none);
  const Unprivileged nobody;
  EXPECT_ERROR(load(folder / "a.pt"), Code::io, "ermission denied");
}

TEST(LoadFaults, EveryReadThatFailsIsAnErrorWithThePath) {
  MemoryFs disk;
  save(state(1), "a.pt", {.fs = &disk});
  for (std::size_t call = 1;; ++call) {
    FaultFs fs(disk, {.call = call, .error = EIO});
    if (call > 100) FAIL() << "load makes more than 100 calls";
    try {
      EXPECT_TRUE(load("a.pt", {.fs = &fs}) == state(1));
      EXPECT_FALSE(fs.happened()) << "call " << call << " failed in silence";
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), Code::io) << error.what();
      EXPECT_NE(std::string(error.what()).find("a.pt"), std::string::npos) << error.what();
    }
    if (!fs.happened()) break;
  }
}

TEST(LoadFaults, EmptyAndForeignFilesAreNamed) {
  MemoryFs disk;
  disk.create("empty.pt", {})->close();
  EXPECT_ERROR(load("empty.pt", {.fs = &disk}), Code::corrupt, "empty.pt: the file is empty");
}

TEST(SaveLoad, AFileMayBeReplacedWhileItsStoragesAreStillRecordsOfIt) {
  const TempDir folder;
  save(state(1), folder / "a.pt");
  Value open = read_pt(posix_fs().open_read(folder / "a.pt"));
  open.set("epoch", 2);
  save(open, folder / "a.pt");
  EXPECT_TRUE(load(folder / "a.pt") == state(2));
}

}  // namespace
}  // namespace torchkeep
