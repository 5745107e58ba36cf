// SPDX-License-Identifier: BSD-3-Clause
// The failing file system itself: the chosen call fails in the chosen way, and no other.
#include "support/fault_fs.h"

#include <cerrno>
#include <gtest/gtest.h>
#include <string>

#include "support/expect_error.h"
#include "support/memory_fs.h"
#include "support/whole_file.h"

namespace torchkeep::testing {
namespace {

TEST(FaultFs, FailsTheChosenCallOnly) {
  MemoryFs memory;
  FaultFs fs(memory, {.call = 2, .error = EDQUOT, .when = Fault::When::before});
  EXPECT_FALSE(fs.status("/a"));
  EXPECT_FALSE(fs.happened());
  EXPECT_ERROR(fs.make_directory("/d"), Code::io, "/d: cannot create the folder");
  EXPECT_TRUE(fs.happened());
  EXPECT_FALSE(memory.status("/d"));
  EXPECT_TRUE(fs.make_directory("/d"));
}

TEST(FaultFs, FailsEverAfterWhenAsked) {
  MemoryFs memory;
  FaultFs fs(memory, {.call = 2, .error = EIO, .and_ever_after = true, .when = Fault::When::before});
  EXPECT_FALSE(fs.status("/a"));
  EXPECT_ERROR(fs.status("/a"), Code::io, "/a");
  EXPECT_ERROR(fs.list("/"), Code::io, "cannot list");
}

TEST(FaultFs, WritesTheFirstHalfWhenAsked) {
  MemoryFs memory;
  FaultFs fs(memory, {.call = 2, .error = ENOSPC, .when = Fault::When::halfway});
  const auto file = fs.create("/a", {});
  EXPECT_ERROR(file->write_at(0, as_bytes("abcdef")), Code::io, "No space left");
  EXPECT_EQ(read_file(memory, "/a"), "abc");
}

TEST(FaultFs, DoesTheWorkAndFailsWhenAsked) {
  MemoryFs memory;
  create_file(memory, "/a", "text");
  FaultFs fs(memory, {.call = 1, .error = EIO, .when = Fault::When::after});
  EXPECT_ERROR(fs.rename("/a", "/b"), Code::io, "rename");
  EXPECT_EQ(read_file(memory, "/b"), "text");
}

TEST(FaultFs, CountsTheCallsOfFilesReadersAndLocks) {
  MemoryFs memory;
  FaultFs fs(memory, {});
  create_file(fs, "/a", "text");
  read_file(fs, "/a");
  const LockAttempt held = fs.try_lock("/lock", "note");
  held.lock->confirm();
  const std::vector<std::string> expected = {"create /a", "write 4 bytes /a",  "sync /a",
                                             "close /a",  "sync the folder /", "open for reading /a",
                                             "read /a",   "lock /lock",        "confirm the lock /lock"};
  EXPECT_EQ(fs.calls(), expected);
  EXPECT_FALSE(fs.happened());
}

}  // namespace
}  // namespace torchkeep::testing
