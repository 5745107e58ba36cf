// SPDX-License-Identifier: BSD-3-Clause
// Fs::try_lock of the running machine, and what it takes to rely on a lock.
//
// A lock of the open file (fcntl F_OFD_SETLK): it stays whatever else this process opens and closes, a copy of the
// folder included, where a record lock (F_SETLK) is lost when any descriptor of the file is closed. But it lives as
// long as any copy of the descriptor, and forked data-loader workers have one: they would keep the lock of a parent
// that was killed. So every fork closes the child's copies (pthread_atfork), and an exec does (O_CLOEXEC).
//
// A system that lacks it gets the record lock. Then nothing here opens a file of the table again, reading one through
// Fs gives the note from the table, and confirm() takes the lock again when other code has made the process lose it.
//
// In both cases a table of the locks held names the holder to the second one in this process.
#include <algorithm>
#include <fcntl.h>
#include <memory>
#include <mutex>
#include <pthread.h>
#include <string_view>
#include <sys/stat.h>
#include <vector>

#include <torchkeep/base/per_process.h>

#include "posix.h"

namespace torchkeep::posix {
namespace {

constexpr std::string_view kNoteStart = "process ";  // of every note (lock.cpp)

struct Held {
  FileId file;
  int descriptor = -1;
  std::string note;
};

/// The locks of this process. A fork waits for the mutex, so that the child finds every descriptor in it.
struct Table {
  std::mutex mutex;
  std::vector<Held> locks;

  const Held* find(const FileId& file) const {
    const auto found = std::find_if(locks.begin(), locks.end(), [&](const Held& held) { return held.file == file; });
    return found == locks.end() ? nullptr : &*found;
  }
};

Table& table();

void before_fork() {
  table().mutex.lock();
}
void in_parent() {
  table().mutex.unlock();
}
/// The child holds nothing: a lock belongs to the process that took it.
void in_child() {
  for (const Held& held : table().locks) ::close(held.descriptor);
  table().locks.clear();
  table().mutex.unlock();
}

/// Never destroyed: static objects may release locks late.
Table& table() {
  static Table* const only = [] {
    auto* const made = new Table;
    // No memory for that: then a worker may keep the lock of a killed parent, and the lock's error names the process.
    [[maybe_unused]] const int ignored = ::pthread_atfork(before_fork, in_parent, in_child);
    return made;
  }();
  return *only;
}

/// What stands under the name itself.
std::optional<FileId> identify(const std::string& path) {
  struct stat info {};
  if (::lstat(native(path), &info) != 0) return std::nullopt;
  return FileId{info.st_dev, info.st_ino};
}

#if defined(F_OFD_SETLK)
constexpr int kOfOpenFile = F_OFD_SETLK;
#else
constexpr int kOfOpenFile = F_SETLK;
#endif

int set_lock(int fd, int command, short type) {
  struct flock lock {};  // the whole file
  lock.l_type = type;
  lock.l_whence = SEEK_SET;
  return retry([&] { return ::fcntl(fd, command, &lock); }) == 0 ? 0 : errno;
}

bool means_held_by_another(int error) {
  return error == EAGAIN || error == EACCES;
}

bool means_no_locks(int error) {
  return error == ENOLCK || error == ENOSYS || error == ENOTSUP || error == EOPNOTSUPP || error == EINVAL;
}

/// 0 when this process holds the lock now, else errno.
int take(int fd) {
  const int error = set_lock(fd, kOfOpenFile, F_WRLCK);
  return means_no_locks(error) ? set_lock(fd, F_SETLK, F_WRLCK) : error;
}

[[noreturn]] void fail_busy(const char* message, const std::string& path) {
  Where where;
  where.file = path;
  throw Error(Code::busy, message, std::move(where));
}

/// What the file says; only so much as a note may hold.
std::string read_note(const Descriptor& file) {
  std::string note(512, '\0');
  const ssize_t length = retry([&] { return ::pread(file.get(), note.data(), note.size(), 0); });
  note.resize(length > 0 ? static_cast<std::size_t>(length) : 0);
  return note;
}

/// Replaces what the lock file says, where that is a note or nothing: a file that has other content or other names is
/// somebody's, and locked as it is. The note is only for people, so a full disk is no reason to fail.
bool write_note(const Descriptor& file, const std::string& path, const std::string& note) {
  const std::string there = read_note(file);
  if (require_regular(file, path).names > 1 || !(there.empty() || there.starts_with(kNoteStart))) return false;
  if (::ftruncate(file.get(), 0) != 0) return false;
  [[maybe_unused]] const ssize_t ignored = ::pwrite(file.get(), note.data(), note.size(), 0);
  return true;
}

class PosixLock final : public FileLock {
 public:
  PosixLock(Descriptor file, FileId id, std::string path, bool noted)
      : file_(std::move(file)), id_(id), path_(std::move(path)), noted_(noted) {}

  ~PosixLock() override {
    if (::getpid() != process_) {  // the descriptor was closed at the fork, and its number may be another's by now
      file_.release();
      return;
    }
    const std::lock_guard guard(table().mutex);
    // An empty note means that nothing holds it; a failure leaves an old note, only ever shown for a held lock.
    noted_ = noted_ && ::ftruncate(file_.get(), 0) != 0;
    std::erase_if(table().locks, [&](const Held& held) { return held.file == id_; });
    // Not only by closing: a child that is being forked may have a copy of the descriptor for a moment.
    set_lock(file_.get(), kOfOpenFile, F_UNLCK);
    ::close(file_.release());
  }

  void confirm() override {
    if (::getpid() != process_) fail_busy("the lock belongs to the process that forked this one", path_);
    const int error = take(file_.get());
    if (means_held_by_another(error)) fail_busy("the lock was lost, and another process has taken it", path_);
    if (error != 0) fail(error, "confirm the lock", path_);
    if (identify(path_) != id_) fail_busy("the lock file was deleted or replaced while it was locked", path_);
  }

 private:
  Descriptor file_;
  FileId id_;
  std::string path_;
  bool noted_;
  pid_t process_ = ::getpid();
};

Descriptor open_lock_file(const std::string& path) {
  Descriptor file(retry([&] { return ::open(native(path), O_RDWR | O_CREAT | kOwnFile, 0666); }));
  if (!file.valid()) fail_open(errno, "open the lock file", path);
  require_regular(file, path);
  return file;
}

LockAttempt describe_holder(const Descriptor& file) {
  LockAttempt attempt;
  struct flock lock {};
  lock.l_type = F_WRLCK;
  lock.l_whence = SEEK_SET;
  // The system knows the process of a record lock, but not that of an open file's.
  if (::fcntl(file.get(), F_GETLK, &lock) == 0 && lock.l_type != F_UNLCK && lock.l_pid > 0) {
    attempt.holder_pid = lock.l_pid;
  }
  attempt.holder_note = read_note(file);
  return attempt;
}

}  // namespace

std::optional<std::string> note_of_held_lock(const std::string& path) {
  const std::lock_guard guard(table().mutex);
  if (table().locks.empty()) return std::nullopt;
  const auto id = identify(path);
  const Held* const held = id ? table().find(*id) : nullptr;
  return held != nullptr ? std::optional(held->note) : std::nullopt;
}

LockAttempt try_lock(const std::string& path, const std::string& note) {
  // Held throughout: two threads that both open the file would drop each other's record lock.
  const std::lock_guard guard(table().mutex);
  while (true) {
    const auto there = identify(path);
    if (const Held* const held = there ? table().find(*there) : nullptr) return {nullptr, ::getpid(), held->note};
    Descriptor file = open_lock_file(path);
    const auto id = identify(file);
    if (!id) fail(errno, "read the lock file's status", path);
    if (const Held* const held = table().find(*id)) {
      // The path was pointed at a file of ours since the look above. Closing this descriptor would drop a record lock,
      // so it stays open; the next look finds the lock by name.
      file.release();
      return {nullptr, ::getpid(), held->note};
    }
    const int error = take(file.get());
    if (means_held_by_another(error)) return describe_holder(file);
    if (means_no_locks(error)) {
      Where where;
      where.file = path;
      throw Error(Code::unsupported, "this file system has no locks", std::move(where)).with_errno(error);
    }
    if (error != 0) fail(error, "lock the file", path);
    // Deleted between open and lock: what is locked has no name any more. Try the file that has.
    if (identify(path) != id) continue;
    const bool noted = write_note(file, path, note);
    table().locks.push_back({*id, file.get(), note});
    return {std::make_unique<PosixLock>(std::move(file), *id, path, noted), 0, {}};
  }
}

}  // namespace torchkeep::posix
