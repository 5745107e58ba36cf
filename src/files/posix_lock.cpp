// SPDX-License-Identifier: BSD-3-Clause
// Fs::try_lock of the running machine: a POSIX record lock, and what it takes to rely on one.
//
// Why a record lock (fcntl F_SETLK): it belongs to the process. An flock or an open-file-description lock belongs to
// the open file, which forked data-loader workers inherit: they would keep the lock of a parent that was killed.
// What it costs, and what is done about it here:
//  - A second lock in the same process always succeeds: a table of the locks held refuses it.
//  - Closing *any* descriptor of the file drops the lock: nothing here opens a file of the table again, and reading one
//    through Fs gives the note from the table. Code outside torchkeep can still do it; confirm() takes the lock again.
//  - A forked child inherits the descriptor but not the lock: it has a table of its own, and its copies of the lock
//    objects do nothing.
#include <algorithm>
#include <fcntl.h>
#include <memory>
#include <mutex>
#include <sys/stat.h>
#include <vector>

#include <torchkeep/base/per_process.h>

#include "posix.h"

namespace torchkeep::posix {
namespace {

struct FileId {
  dev_t device = 0;
  ino_t inode = 0;
  bool operator==(const FileId&) const = default;
};

struct Held {
  FileId file;
  std::string note;
};

/// The locks of one process.
struct Table {
  std::mutex mutex;
  std::vector<Held> locks;

  const Held* find(const FileId& file) const {
    const auto found = std::find_if(locks.begin(), locks.end(), [&](const Held& held) { return held.file == file; });
    return found == locks.end() ? nullptr : &*found;
  }
};

/// This process's table.
Table& table() {
  return per_process<Table>();
}

std::optional<FileId> identify(const std::string& path) {
  struct stat info {};
  if (::stat(path.c_str(), &info) != 0) return std::nullopt;
  return FileId{info.st_dev, info.st_ino};
}

struct flock whole_file() {
  struct flock lock {};
  lock.l_type = F_WRLCK;
  lock.l_whence = SEEK_SET;
  return lock;
}

/// 0 when this process holds the lock now, else errno.
int take(int fd) {
  struct flock lock = whole_file();
  return retry([&] { return ::fcntl(fd, F_SETLK, &lock); }) == 0 ? 0 : errno;
}

bool means_held_by_another(int error) {
  return error == EAGAIN || error == EACCES;
}

[[noreturn]] void fail_busy(const char* message, const std::string& path) {
  Where where;
  where.file = path;
  throw Error(Code::busy, message, std::move(where));
}

class PosixLock final : public FileLock {
 public:
  PosixLock(Descriptor file, FileId id, std::string path) : file_(std::move(file)), id_(id), path_(std::move(path)) {}

  ~PosixLock() override {
    // A forked child only closes: neither the note nor the entry is its own.
    if (::getpid() != process_) return;
    const std::lock_guard guard(table().mutex);
    // An empty note means "held by nobody"; a failure leaves an old note, which is only ever shown for a held lock.
    [[maybe_unused]] const int ignored = ::ftruncate(file_.get(), 0);
    std::erase_if(table().locks, [&](const Held& held) { return held.file == id_; });
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
  pid_t process_ = ::getpid();
};

Descriptor open_lock_file(const std::string& path) {
  Descriptor file(retry([&] { return ::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NONBLOCK, 0666); }));
  if (!file.valid()) fail(errno, "open the lock file", path);
  return file;
}

FileId identify(const Descriptor& file, const std::string& path) {
  struct stat info {};
  if (::fstat(file.get(), &info) != 0) fail(errno, "read the lock file's status", path);
  return {info.st_dev, info.st_ino};
}

LockAttempt describe_holder(const Descriptor& file) {
  LockAttempt attempt;
  struct flock lock = whole_file();
  if (::fcntl(file.get(), F_GETLK, &lock) == 0 && lock.l_type != F_UNLCK && lock.l_pid > 0) {
    attempt.holder_pid = lock.l_pid;
  }
  std::string note(512, '\0');
  const ssize_t length = retry([&] { return ::pread(file.get(), note.data(), note.size(), 0); });
  note.resize(length > 0 ? static_cast<std::size_t>(length) : 0);
  attempt.holder_note = std::move(note);
  return attempt;
}

/// Replaces what the lock file says. It is only for people, so a full disk is no reason to fail.
void write_note(const Descriptor& file, const std::string& note) noexcept {
  if (::ftruncate(file.get(), 0) != 0) return;
  [[maybe_unused]] const ssize_t ignored = ::pwrite(file.get(), note.data(), note.size(), 0);
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
  // Held throughout: two threads that both open the file would drop each other's lock.
  const std::lock_guard guard(table().mutex);
  while (true) {
    const auto there = identify(path);
    if (const Held* const held = there ? table().find(*there) : nullptr) return {nullptr, ::getpid(), held->note};
    Descriptor file = open_lock_file(path);
    const FileId id = identify(file, path);
    if (const Held* const held = table().find(id)) {
      // The path was pointed at a file of ours since the look above. Closing this descriptor would drop that lock, so
      // it stays open; the next look finds the lock by name.
      file.release();
      return {nullptr, ::getpid(), held->note};
    }
    const int error = take(file.get());
    if (means_held_by_another(error)) return describe_holder(file);
    if (error == ENOLCK || error == ENOSYS || error == ENOTSUP || error == EOPNOTSUPP || error == EINVAL) {
      Where where;
      where.file = path;
      throw Error(Code::unsupported, "this file system has no locks; use a folder on another one", std::move(where))
          .with_errno(error);
    }
    if (error != 0) fail(error, "lock the file", path);
    // Deleted between open and lock: what is locked has no name any more. Try the file that has.
    if (identify(path) != id) continue;
    write_note(file, note);
    table().locks.push_back({id, note});
    return {std::make_unique<PosixLock>(std::move(file), id, path), 0, {}};
  }
}

}  // namespace torchkeep::posix
