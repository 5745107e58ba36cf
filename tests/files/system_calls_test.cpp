// SPDX-License-Identifier: BSD-3-Clause
// posix_fs() when system calls are interrupted, do less than asked, or fail: the linker routes them through here.
#include <gtest/gtest.h>

#if defined(__linux__)
#include <cerrno>
#include <cstdarg>
#include <deque>
#include <fcntl.h>
#include <map>
#include <string>
#include <sys/stat.h>
#include <unistd.h>
#include <vector>

#include <torchkeep/files/lock.h>
#include <torchkeep/files/publish.h>

#include "support/expect_error.h"
#include "support/temp_dir.h"
#include "support/whole_file.h"

namespace {

/// What the next calls of one kind do: an errno to fail with, 0 to work. Then they all work.
struct Script {
  std::deque<int> results;
  int always = 0;  ///< once `results` is used up
  std::size_t calls = 0;

  /// True when this call is to fail; errno is set.
  bool fails() {
    ++calls;
    int result = always;
    if (!results.empty()) {
      result = results.front();
      results.pop_front();
    }
    if (result != 0) errno = result;
    return result != 0;
  }
};

std::map<std::string, Script> scripts;
std::size_t largest_transfer = ~std::size_t{0};
bool writes_nothing = false;
int refused_command = -1;
int refusal = 0;

}  // namespace

extern "C" {
int __real_open(const char* path, int flags, ...);
ssize_t __real_pread(int fd, void* buffer, size_t count, off_t offset);
ssize_t __real_pwrite(int fd, const void* buffer, size_t count, off_t offset);
int __real_fsync(int fd);
int __real_fallocate(int fd, int mode, off_t offset, off_t length);
int __real_close(int fd);
int __real_fchmod(int fd, mode_t mode);
int __real_fcntl(int fd, int command, ...);

int __wrap_open(const char* path, int flags, ...) {
  va_list arguments;
  va_start(arguments, flags);
  const mode_t mode = (flags & O_CREAT) != 0 ? va_arg(arguments, mode_t) : 0;
  va_end(arguments);
  return scripts["open"].fails() ? -1 : __real_open(path, flags, mode);
}
ssize_t __wrap_pread(int fd, void* buffer, size_t count, off_t offset) {
  return scripts["pread"].fails() ? -1 : __real_pread(fd, buffer, std::min(count, largest_transfer), offset);
}
ssize_t __wrap_pwrite(int fd, const void* buffer, size_t count, off_t offset) {
  if (scripts["pwrite"].fails()) return -1;
  return writes_nothing ? 0 : __real_pwrite(fd, buffer, std::min(count, largest_transfer), offset);
}
int __wrap_fsync(int fd) {
  return scripts["fsync"].fails() ? -1 : __real_fsync(fd);
}
int __wrap_fallocate(int fd, int mode, off_t offset, off_t length) {
  return scripts["fallocate"].fails() ? -1 : __real_fallocate(fd, mode, offset, length);
}
int __wrap_close(int fd) {
  // As on Linux: the descriptor is closed whatever is reported.
  const bool fails = scripts["close"].fails();
  const int error = errno;
  const int result = __real_close(fd);
  if (!fails) return result;
  errno = error;
  return -1;
}
int __wrap_fchmod(int fd, mode_t mode) {
  return scripts["fchmod"].fails() ? -1 : __real_fchmod(fd, mode);
}
int __wrap_fcntl(int fd, int command, ...) {
  va_list arguments;
  va_start(arguments, command);
  void* const argument = va_arg(arguments, void*);
  va_end(arguments);
  if (command == refused_command) {
    errno = refusal;
    return -1;
  }
  return scripts["fcntl"].fails() ? -1 : __real_fcntl(fd, command, argument);
}
}  // extern "C"

namespace torchkeep {
namespace {

using torchkeep::testing::create_file;
using torchkeep::testing::read_file;
using torchkeep::testing::TempDir;

class SystemCalls : public ::testing::Test {
 protected:
  ~SystemCalls() override {
    scripts.clear();
    largest_transfer = ~std::size_t{0};
    writes_nothing = false;
    refused_command = -1;
  }
  static Script& script(const std::string& call) { return scripts[call]; }
  std::string path() const { return folder_ / "a"; }

  const TempDir folder_;
};

TEST_F(SystemCalls, ShortAndInterruptedWritesAreFinished) {
  const auto file = posix_fs().create(path(), {});
  largest_transfer = 3;
  script("pwrite").results = {EINTR, 0, EINTR, EINTR, 0};
  file->write_at(1, as_bytes("0123456789"));
  EXPECT_EQ(script("pwrite").calls, 7U);
  EXPECT_EQ(read_file(posix_fs(), path()), std::string("\0", 1) + "0123456789");
}

TEST_F(SystemCalls, ShortAndInterruptedReadsAreFinished) {
  create_file(posix_fs(), path(), "0123456789");
  const auto file = posix_fs().open_read(path());
  largest_transfer = 3;
  script("pread").results = {EINTR, 0, EINTR, 0};
  std::string out(8, '\0');
  file->read_at(2, std::as_writable_bytes(std::span(out)));
  EXPECT_EQ(out, "23456789");
}

TEST_F(SystemCalls, AWriteThatFailsHalfwayNamesTheByteItReached) {
  const auto file = posix_fs().create(path(), {});
  largest_transfer = 4;
  script("pwrite").results = {0, ENOSPC};
  EXPECT_ERROR(file->write_at(10, as_bytes("0123456789")), Code::io,
               path() + " at byte 14: cannot write 6 bytes: No space left on device");
}

TEST_F(SystemCalls, AWriteThatMakesNoProgressIsAnError) {
  const auto file = posix_fs().create(path(), {});
  writes_nothing = true;
  EXPECT_ERROR(file->write_at(0, as_bytes("x")), Code::io, "Input/output error");
}

TEST_F(SystemCalls, AReadThatFailsIsAnError) {
  create_file(posix_fs(), path(), "text");
  const auto file = posix_fs().open_read(path());
  script("pread").results = {EIO};
  std::string out(4, '\0');
  EXPECT_ERROR(file->read_at(0, std::as_writable_bytes(std::span(out))), Code::io,
               path() + " at byte 0: cannot read 4 bytes: Input/output error");
}

TEST_F(SystemCalls, WhereDirectReadsAreRefusedTheFileIsReadThroughThePageCache) {
  const std::string text(600'000, 'x');
  create_file(posix_fs(), path(), text);
  const int fd = ::open(path().c_str(), O_RDONLY | O_CLOEXEC);
  ASSERT_EQ(::fsync(fd), 0);
  const auto evict = [&] { ::posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED); };
  evict();
  const auto file = posix_fs().open_read(path());
  if (!file->is_cold(0, text.size()))
    GTEST_SKIP() << "this system does not tell what is cached, or has no direct reads";
  std::string found(text.size(), '\0');
  script("pread").results = {EINVAL};
  EXPECT_EQ(as_text(file->look_at(0, text.size())), text);
  EXPECT_EQ(script("pread").calls, 2U);
  evict();
  script("pread").results = {EINVAL};
  file->read_at(0, std::as_writable_bytes(std::span(found)));
  EXPECT_EQ(found, text);
  ::close(fd);
}

TEST_F(SystemCalls, AnInterruptedOpenIsRepeated) {
  script("open").results = {EINTR, EINTR};
  posix_fs().create(path(), {});
  EXPECT_EQ(script("open").calls, 3U);
}

TEST_F(SystemCalls, TooManyOpenFilesIsAnError) {
  script("open").always = EMFILE;
  EXPECT_ERROR(posix_fs().create(path(), {}), Code::io, path() + ": cannot create the file: Too many open files");
  EXPECT_ERROR(posix_fs().open_read(path()), Code::io,
               path() + ": cannot open the file for reading: Too many open files");
  EXPECT_ERROR(posix_fs().list(folder_.path()), Code::io, folder_.path() + ": cannot open the folder: Too many open");
}

TEST_F(SystemCalls, AnInterruptedSyncIsRepeated) {
  const auto file = posix_fs().create(path(), {});
  script("fsync").results = {EINTR, EINTR, 0};
  file->sync();
  EXPECT_EQ(script("fsync").calls, 3U);
}

TEST_F(SystemCalls, ASyncThatFailedOnceNeverSucceeds) {
  const auto file = posix_fs().create(path(), {});
  script("fsync").results = {EIO};
  EXPECT_ERROR(file->sync(), Code::io, path() + ": cannot sync the file to disk: Input/output error");
  EXPECT_ERROR(file->sync(), Code::io, "cannot sync the file to disk: Input/output error");
}

TEST_F(SystemCalls, AFailedSyncPublishesNothing) {
  create_file(posix_fs(), path(), "old");
  script("fsync").results = {EIO};
  EXPECT_ERROR(publish(posix_fs(), path(), as_bytes("new")), Code::io, path() + ": cannot sync the file to disk");
  EXPECT_EQ(read_file(posix_fs(), path()), "old");
  EXPECT_EQ(posix_fs().list(folder_.path()), std::vector<std::string>{"a"});
}

TEST_F(SystemCalls, AFolderThatCannotBeSyncedIsLeftButAFailureIsAnError) {
  script("fsync").results = {EINVAL, ENOTSUP, EIO};
  posix_fs().sync_directory(folder_.path());
  posix_fs().sync_directory(folder_.path());
  EXPECT_ERROR(posix_fs().sync_directory(folder_.path()), Code::io,
               "cannot sync the folder to disk: Input/output error");
}

TEST_F(SystemCalls, AFailedFolderSyncSaysThatTheNewFileIsInPlace) {
  create_file(posix_fs(), path(), "old");
  script("fsync").results = {0, EIO};
  EXPECT_ERROR(publish(posix_fs(), path(), as_bytes("new")), Code::io,
               path() + ": the new file is in place, but not safe from a power cut: cannot sync the folder");
  EXPECT_EQ(read_file(posix_fs(), path()), "new");
}

TEST_F(SystemCalls, WhereSpaceCannotBeReservedNoZerosAreWritten) {
  const auto file = posix_fs().create(path(), {});
  for (const int error : {EOPNOTSUPP, ENOSYS, EINVAL}) {
    script("fallocate").results = {error};
    EXPECT_FALSE(file->reserve(1 << 20));
  }
  EXPECT_EQ(script("pwrite").calls, 0U);
  struct stat info {};
  ASSERT_EQ(::stat(path().c_str(), &info), 0);
  EXPECT_EQ(info.st_size, 0);
  EXPECT_EQ(info.st_blocks, 0);
}

TEST_F(SystemCalls, ALackOfSpaceOrQuotaFailsTheReservation) {
  const auto file = posix_fs().create(path(), {});
  script("fallocate").results = {ENOSPC, EDQUOT};
  EXPECT_ERROR(file->reserve(4096), Code::io, path() + ": cannot reserve 4096 bytes: No space left on device");
  EXPECT_ERROR(file->reserve(4096), Code::io, path() + ": cannot reserve 4096 bytes: Disk quota exceeded");
}

TEST_F(SystemCalls, AnExceededQuotaIsToldInNumbers) {
  script("fallocate").results = {EDQUOT};
  EXPECT_ERROR(publish(posix_fs(), path(), as_bytes("text")), Code::io, "Disk quota exceeded; 4 bytes needed; ");
}

TEST_F(SystemCalls, AReservationOutlastsSignalsButNotForever) {
  const auto file = posix_fs().create(path(), {});
  script("fallocate").results = {EINTR, EINTR, 0};
  EXPECT_TRUE(file->reserve(4096));
  script("fallocate").always = EINTR;
  EXPECT_FALSE(file->reserve(4096));
}

TEST_F(SystemCalls, AnErrorThatOnlyClosingRevealsIsReported) {
  const auto file = posix_fs().create(path(), {});
  script("close").results = {EDQUOT};
  EXPECT_ERROR(file->close(), Code::io, path() + ": cannot close the file: Disk quota exceeded");
  const std::size_t calls = script("close").calls;
  file->close();
  EXPECT_EQ(script("close").calls, calls) << "a descriptor closed twice may be another file's";
}

TEST_F(SystemCalls, AnInterruptedCloseIsNotRepeated) {
  const auto file = posix_fs().create(path(), {});
  script("close").results = {EINTR};
  file->close();
  EXPECT_EQ(script("close").calls, 1U);
}

TEST_F(SystemCalls, AModeThatCannotBeGivenLeavesNoFile) {
  script("fchmod").results = {EPERM};
  EXPECT_ERROR(posix_fs().create(path(), {.mode = 0777, .exact_mode = true}), Code::io,
               path() + ": cannot give the file mode 0777: Operation not permitted");
  EXPECT_FALSE(posix_fs().status(path()));
}

TEST_F(SystemCalls, AFileSystemWithoutLocksSaysSo) {
  for (const int error : {ENOLCK, ENOSYS, EOPNOTSUPP}) {
    script("fcntl").always = error;
    EXPECT_ERROR(Lock(posix_fs(), path(), {.if_unsupported = "say lock=none"}), Code::unsupported,
                 path() +
                     ": this file system has no locks, so two processes could write here at once, each removing "
                     "and replacing the other's files; use a folder on another file system, or see to it that only "
                     "one writes and say lock=none");
    Lock unheld(posix_fs(), path(), {.locking = Locking::if_available});
    EXPECT_FALSE(unheld.is_held());
    unheld.confirm();
  }
  script("fcntl").always = 0;
  Lock held(posix_fs(), path(), {.locking = Locking::if_available});
  EXPECT_TRUE(held.is_held());
  held.confirm();
}

TEST_F(SystemCalls, WhereOpenFilesHaveNoLocksARecordLockIsConfirmed) {
  refused_command = F_OFD_SETLK;
  for (const int error : {EINVAL, ENOLCK, ENOSYS}) {
    refusal = error;
    Lock lock(posix_fs(), path());
    EXPECT_FALSE(read_file(posix_fs(), path()).empty()) << "from memory: opening the file would drop the lock";
    ::close(::open(path().c_str(), O_RDONLY | O_CLOEXEC));  // drops it
    lock.confirm();
    struct flock whole {};
    whole.l_type = F_WRLCK;
    whole.l_whence = SEEK_SET;
    const int other = ::open(path().c_str(), O_RDWR | O_CLOEXEC);  // closed after the lock: that would drop it again
    ASSERT_EQ(__real_fcntl(other, F_OFD_GETLK, &whole), 0);
    EXPECT_EQ(whole.l_pid, ::getpid()) << "the process holds it";
    ::close(other);
  }
}

TEST_F(SystemCalls, AnInterruptedLockIsRepeated) {
  script("fcntl").results = {EINTR, EINTR};
  Lock(posix_fs(), path()).confirm();
  EXPECT_EQ(script("fcntl").calls, 5U);  // two interrupted, taken, confirmed, given back
}

TEST_F(SystemCalls, ANoteThatCannotBeWrittenIsNoReasonToFail) {
  script("pwrite").always = ENOSPC;
  Lock(posix_fs(), path()).confirm();
}

}  // namespace
}  // namespace torchkeep
#endif  // __linux__
