// SPDX-License-Identifier: BSD-3-Clause
// The one seam to the file system: whatever torchkeep writes, renames, syncs, reads or locks goes through an Fs.
//
// Everything above takes an Fs& as an argument, so a test can hand in another one (in memory, failing, crashing).
// A faster way to write (direct, io_uring) is another File; a faster way to read (direct, mapped) is another ReadAt;
// both come out of the Fs that knows the system they need. No method returns EINTR or a short count.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <torchkeep/base/bytes.h>
#include <torchkeep/base/error.h>

namespace torchkeep {

/// A file open for writing. Its destructor closes it, never syncs and never throws.
class File {
 public:
  File() = default;
  File(const File&) = delete;
  File& operator=(const File&) = delete;
  virtual ~File() = default;

  /// Writes all of `bytes` at `offset` or throws Error (io); a gap before `offset` reads as zeros.
  /// Several threads may write ranges that do not overlap at the same time.
  virtual void write_at(std::uint64_t offset, Bytes bytes) = 0;
  /// Has space set aside for the first `size` bytes; the file's length does not change. True: writes below `size`
  /// cannot fail for lack of space. False: this file system has no such promise (zeros are never written instead).
  /// Throws Error (io) with the system error ENOSPC, EDQUOT or EFBIG when that much cannot be had.
  virtual bool reserve(std::uint64_t size) = 0;
  /// Returns when all bytes and the length are on stable storage. A sync that failed once fails ever after: the
  /// kernel reports a lost write only once, so a later success would prove nothing.
  virtual void sync() = 0;
  /// Closes the file and reports what only closing reveals (a quota on a network file system). Nothing on a closed one.
  virtual void close() = 0;
  /// The path it was opened with, for errors.
  virtual const std::string& path() const noexcept = 0;
};

enum class FileKind { regular, directory, link, other };

/// "a folder", "a symbolic link" ...
std::string_view to_string(FileKind kind) noexcept;

/// What `Fs::status` tells about a path, symbolic links followed, and `Fs::entry` about what stands there itself.
struct FileStatus {
  FileKind kind = FileKind::regular;
  std::uint64_t size = 0;   ///< bytes
  unsigned mode = 0;        ///< permission bits (0777)
  std::uint64_t names = 1;  ///< names that the file has (hard links)
};

/// Which way a file's bytes take to the disk. The file is the same; where the system lacks a way, or refuses it for
/// this file, the next one in this list is taken.
enum class WritePath : std::uint8_t {
  /// Past the system's page cache, by direct asynchronous writes from a small ring of aligned memory (io_uring). The
  /// fastest way to a file that is synced: it needs no fresh memory, and nothing is left to do at the sync. Fast for
  /// writes in order; others go through the page cache.
  direct,
  /// Through the page cache, from which each write is dropped once it is on the disk (Linux 6.14).
  uncached,
  /// Through the page cache, where the file stays: the fastest way when nobody waits for the disk.
  page_cache,
};

/// How a file is created.
struct CreateOptions {
  unsigned mode = 0666;     ///< permission bits asked for
  bool exact_mode = false;  ///< false: the process's umask takes bits away; true: exactly `mode`
  WritePath path = WritePath::page_cache;
};

struct PublishOptions {
  /// True: when publish() returns, the new file survives a power cut. False: no sync; a kill of the process still
  /// leaves the old or the new file, but after a power cut the file may be the old one, the new one, or damaged.
  bool durable = true;
  /// Bytes that will be written, when known: space is reserved first, so that a full disk is found out at once.
  std::optional<std::uint64_t> size = std::nullopt;
  /// How the bytes are written.
  WritePath write_path = WritePath::page_cache;
  /// What happens where the path is a symbolic link: false: the file that it leads to is replaced, and the link stays;
  /// true: the link itself is, so that nothing outside the folder changes.
  bool replace_link = false;
};

/// A file that is being written where no reader sees it. Destroyed before commit(), it is gone, and what was at its
/// path is untouched.
class PendingFile {
 public:
  PendingFile() = default;
  PendingFile(const PendingFile&) = delete;
  PendingFile& operator=(const PendingFile&) = delete;
  virtual ~PendingFile() = default;

  /// Through which it is written.
  virtual File& file() = 0;
  /// Its bytes are on stable storage when this returns; nothing is written after it. commit() does it, where it was not
  /// done and the file is to be durable.
  virtual void sync() = 0;
  /// To read what was written so far.
  virtual std::unique_ptr<ReadAt> open_read() = 0;
  /// The one atomic moment: readers of its path find it from now on. Throws Error, after which it is gone, but for one
  /// that the message names: when the file is in place and a power cut may still bring the old one back.
  virtual void commit() = 0;
  /// Removes it and throws `error`, told as one of the file that it was to become where it is one of this file.
  [[noreturn]] virtual void fail(const Error& error) = 0;
};

/// A lock that is held until this object is destroyed or the process ends, however it ends.
class FileLock {
 public:
  FileLock() = default;
  FileLock(const FileLock&) = delete;
  FileLock& operator=(const FileLock&) = delete;
  virtual ~FileLock() = default;
  /// Takes the lock again if this process lost it (closing any other descriptor of the lock file does that) and throws
  /// Error (busy) if another has it by now, if the lock file was deleted, or in a forked child. Two system calls:
  /// cheap enough before every save.
  virtual void confirm() = 0;
};

/// The outcome of `Fs::try_lock`.
struct LockAttempt {
  std::unique_ptr<FileLock> lock;  ///< null when another process or another part of this one holds it
  std::int64_t holder_pid = 0;     ///< process that holds it; 0 when not known (another host or container)
  std::string holder_note;         ///< the note its holder left; may be old or empty
};

/// A file system. Paths are as the system takes them; errors are Error with the path and the action: Code::not_found
/// when the path does not exist, Code::invalid_argument when a folder or device stands where a file is expected,
/// Code::io otherwise, with the system error. Safe to use from several threads.
class Fs {
 public:
  Fs() = default;
  Fs(const Fs&) = delete;
  Fs& operator=(const Fs&) = delete;
  virtual ~Fs() = default;

  /// A new, empty file. It must not exist (system error EEXIST), not even as a dangling link.
  virtual std::unique_ptr<File> create(const std::string& path, const CreateOptions& options) = 0;
  /// A file to change in place, created when missing (mode 0666 less the umask); what it holds is kept. A link is not
  /// followed, and a file with other names is refused (Error, invalid_argument): nothing outside the folder changes.
  /// For logs (open_log in publish.h): a checkpoint is only ever published.
  virtual std::unique_ptr<File> open_write(const std::string& path) = 0;
  /// An existing file to read.
  virtual std::unique_ptr<ReadAt> open_read(const std::string& path) = 0;
  /// Moves a file or folder to another name of the same file system, atomically replacing what is there. A link is not
  /// followed. A folder replaces nothing but an empty folder (system error ENOTEMPTY, ENOTDIR over a file).
  virtual void rename(const std::string& from, const std::string& to) = 0;
  /// Removes a file or a link, not a folder.
  virtual void remove(const std::string& path) = 0;
  /// Removes an empty folder (system error ENOTEMPTY where it is not empty).
  virtual void remove_directory(const std::string& path) = 0;
  /// Returns when all entries made, renamed and removed in this folder are on stable storage. Nothing where the file
  /// system cannot sync a folder.
  virtual void sync_directory(const std::string& path) = 0;
  /// Creates one folder (mode 0777 less the umask). False when it was there.
  virtual bool make_directory(const std::string& path) = 0;

  /// Begins a file that is to appear at `path`, whole and at once. As it stands here, it is a hidden temporary file
  /// beside `path` that commit() renames; a store that has another way to put a whole file overrides it. Throws Error:
  /// not_found (no such folder), invalid_argument (`path` names a folder or a device), io.
  virtual std::unique_ptr<PendingFile> begin_publish(const std::string& path, const PublishOptions& options);

  /// The names in a folder, sorted, without "." and "..".
  virtual std::vector<std::string> list(const std::string& path) = 0;
  /// What is at `path`; nothing when it does not exist.
  virtual std::optional<FileStatus> status(const std::string& path) = 0;
  /// What stands under the name itself, be it a link that leads nowhere; nothing when the name is free.
  std::optional<FileStatus> entry(const std::string& path);
  /// Where the symbolic link `path` points, as written in it; nothing when it is not a link or does not exist.
  virtual std::optional<std::string> read_link(const std::string& path) = 0;
  /// Bytes an ordinary user may still write to the file system that holds `path`; nothing when it does not say.
  virtual std::optional<std::uint64_t> free_space(const std::string& path) = 0;

  /// The same path, valid whatever the process's working directory is later.
  virtual std::string absolute(const std::string& path) { return path; }

  /// Tries to lock `path` for this process alone, without waiting; the file is created when missing and then holds
  /// `note`. Throws Error (unsupported) where the file system has no locks. Most programs want Lock (lock.h).
  virtual LockAttempt try_lock(const std::string& path, const std::string& note) = 0;
};

/// The file system of the running machine.
Fs& posix_fs() noexcept;

}  // namespace torchkeep
