// SPDX-License-Identifier: BSD-3-Clause
// The file system of the running machine; the only file that calls rename, fsync and their kind.
#include <algorithm>
#include <atomic>
#include <cstdio>
#include <dirent.h>
#include <fcntl.h>
#include <filesystem>
#include <fmt/format.h>
#include <limits>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/uio.h>
#include <unistd.h>

#include <torchkeep/base/checked.h>

#include "direct_reads.h"
#include "posix.h"
#include "ring_file.h"
#include "uring_queue.h"

namespace torchkeep {
namespace {

using posix::Descriptor;
using posix::fail;
using posix::fail_kind;
using posix::fail_open;
using posix::native;
using posix::require_regular;
using posix::retry;
using posix::to_status;

// Linux cuts one call at 2 GiB less a page, macOS refuses more than INT_MAX.
constexpr std::size_t kLargestTransfer = std::size_t{1} << 30;

// ---- where the systems differ
// -----------------------------------------------------------------------------------------

/// fsync that reaches the disk itself. 0 or errno.
int sync_descriptor(int fd) {
#if defined(__APPLE__)
  // fsync stops at the drive's cache there; file systems that lack the full one report ENOTSUP or EINVAL.
  if (retry([&] { return ::fcntl(fd, F_FULLFSYNC); }) == 0) return 0;
#endif
  return retry([&] { return ::fsync(fd); }) == 0 ? 0 : errno;
}

/// Allocates the first `size` bytes without changing the length. 0 or errno. Not posix_fallocate: where the file system
/// cannot allocate, that one writes zeros.
int allocate(int fd, std::uint64_t size) {
#if defined(__linux__)
  // tmpfs starts over after a signal, so a program with a fast timer might never get through: give up politely.
  for (int attempt = 0; attempt < 100; ++attempt) {
    if (::fallocate(fd, FALLOC_FL_KEEP_SIZE, 0, static_cast<off_t>(size)) == 0) return 0;
    if (errno != EINTR) return errno;
  }
  return EOPNOTSUPP;
#else
  fstore_t store{F_ALLOCATEALL, F_PEOFPOSMODE, 0, static_cast<off_t>(size), 0};
  return retry([&] { return ::fcntl(fd, F_PREALLOCATE, &store); }) == 0 ? 0 : errno;
#endif
}

/// pwrite whose pages leave the cache once they are on the disk; -1 with EOPNOTSUPP where there is no such thing.
ssize_t write_uncached(int fd, Bytes bytes, std::uint64_t offset) {
#if defined(__linux__)
  constexpr int kDontCache = 0x80;  // RWF_DONTCACHE of Linux 6.14, which older headers lack
  const iovec part{const_cast<std::byte*>(bytes.data()), bytes.size()};
  return ::pwritev2(fd, &part, 1, static_cast<off_t>(offset), kDontCache);
#else
  static_cast<void>(fd), static_cast<void>(bytes), static_cast<void>(offset);
  errno = EOPNOTSUPP;
  return -1;
#endif
}

/// A second descriptor of the open file `file`, for direct I/O; not valid where that cannot be had, or where another
/// file has its name by now.
Descriptor open_direct([[maybe_unused]] const std::string& path, [[maybe_unused]] const Descriptor& file) {
#if defined(__linux__)
  Descriptor direct(
      retry([&] { return ::open(native(path), O_WRONLY | O_DIRECT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK); }));
  if (direct.valid() && posix::identify(direct) == posix::identify(file)) return direct;
#endif
  return Descriptor();
}

// ---- helpers
// ----------------------------------------------------------------------------------------------------------

[[noreturn]] void fail_at(int error, std::string_view action, const std::string& path, std::uint64_t offset) {
  Where where;
  where.file = path;
  where.offset = offset;
  throw Error::from_errno(error, action, std::move(where));
}

/// The largest file this process may write (ulimit -f). Beyond it the kernel would not only fail the call but send
/// SIGXFSZ, which ends the program.
std::uint64_t file_size_limit() {
  rlimit limit{};
  constexpr auto kLargestOffset = static_cast<std::uint64_t>(std::numeric_limits<off_t>::max());
  if (::getrlimit(RLIMIT_FSIZE, &limit) != 0 || limit.rlim_cur == RLIM_INFINITY) return kLargestOffset;
  return std::min<std::uint64_t>(limit.rlim_cur, kLargestOffset);
}

// ---- open files
// -------------------------------------------------------------------------------------------------------

class PosixFile final : public File {
 public:
  PosixFile(Descriptor file, std::string path, bool uncached = false)
      : file_(std::move(file)), path_(std::move(path)), uncached_(uncached) {}

  void write_at(std::uint64_t offset, Bytes bytes) override {
    const auto end = checked_add<std::uint64_t>(offset, bytes.size());
    if (!end || *end > size_limit_) fail_at(EFBIG, fmt::format("write {} bytes", bytes.size()), path_, offset);
    while (!bytes.empty()) {
      const std::size_t count = std::min(bytes.size(), kLargestTransfer);
      const ssize_t written = retry([&] { return write_once(bytes.first(count), offset); });
      if (written <= 0) fail_at(written == 0 ? EIO : errno, fmt::format("write {} bytes", bytes.size()), path_, offset);
      bytes = bytes.subspan(static_cast<std::size_t>(written));
      offset += static_cast<std::uint64_t>(written);
    }
  }

  bool reserve(std::uint64_t size) override {
    if (size == 0) return true;
    const int error = size > size_limit_ ? EFBIG : allocate(file_.get(), size);
    if (error == EOPNOTSUPP || error == ENOTSUP || error == ENOSYS || error == EINVAL) return false;
    if (error != 0) fail(error, fmt::format("reserve {} bytes", size), path_);
    return true;
  }

  void sync() override {
    if (sync_error_ == 0) sync_error_ = sync_descriptor(file_.get());
    if (sync_error_ != 0) fail(sync_error_, "sync the file to disk", path_);
  }

  void close() override {
    if (!file_.valid()) return;
    // After EINTR the descriptor is closed all the same on the systems we know; closing twice could hit another's file.
    if (::close(file_.release()) != 0 && errno != EINTR) fail(errno, "close the file", path_);
  }

  const std::string& path() const noexcept override { return path_; }

 private:
  ssize_t write_once(Bytes bytes, std::uint64_t offset) {
    if (uncached_) {
      const ssize_t written = write_uncached(file_.get(), bytes, offset);
      if (written >= 0 || (errno != EOPNOTSUPP && errno != EINVAL && errno != ENOSYS)) return written;
      uncached_ = false;
    }
    return ::pwrite(file_.get(), bytes.data(), bytes.size(), static_cast<off_t>(offset));
  }

  Descriptor file_;
  std::string path_;
  std::uint64_t size_limit_ = file_size_limit();
  std::atomic<bool> uncached_;
  int sync_error_ = 0;
};

class PosixReadAt final : public ReadAt {
 public:
  PosixReadAt(Descriptor file, std::uint64_t size, std::string path)
      : file_(std::move(file)), size_(size), path_(std::move(path)) {}

  std::uint64_t size() const override { return size_; }

  void read_at(std::uint64_t offset, MutableBytes out) const override {
    if (offset > size_ || out.size() > size_ - offset) fail_short(offset, "the file ends before these bytes");
    if (out.size() >= kDirectFrom && is_cold(offset, out.size()) && direct_.read(offset, out)) return;
    while (!out.empty()) {
      const std::size_t count = std::min(out.size(), kLargestTransfer);
      const ssize_t got = retry([&] { return ::pread(file_.get(), out.data(), count, static_cast<off_t>(offset)); });
      if (got < 0) fail_at(errno, fmt::format("read {} bytes", out.size()), path_, offset);
      if (got == 0) fail_short(offset, "the file was cut short while it was being read");
      out = out.subspan(static_cast<std::size_t>(got));
      offset += static_cast<std::uint64_t>(got);
    }
  }

  Bytes look_at(std::uint64_t offset, std::size_t size) const override {
    if (size >= kDirectFrom && offset <= size_ && size <= size_ - offset && is_cold(offset, size)) {
      const Bytes there = direct_.look_at(offset, size);
      if (!there.empty()) return there;
    }
    return ReadAt::look_at(offset, size);
  }

  const std::string& name() const override { return path_; }

  bool is_cold(std::uint64_t offset, std::uint64_t size) const override { return direct_.is_cold(offset, size); }

  std::shared_ptr<const std::byte> map() const override {
    const auto size = static_cast<std::size_t>(size_);
    if (size == 0) return nullptr;
    // Writable, so that whoever takes a tensor over may change it; MAP_PRIVATE keeps that from the file.
    void* const memory = ::mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_NORESERVE, file_.get(), 0);
    if (memory == MAP_FAILED) return nullptr;
    return {static_cast<const std::byte*>(memory), [memory, size](const std::byte*) { ::munmap(memory, size); }};
  }

 private:
  [[noreturn]] void fail_short(std::uint64_t offset, const char* message) const {
    Where where;
    where.file = path_;
    where.offset = offset;
    throw Error(Code::corrupt, fmt::format("{} (it had {} bytes when opened)", message, size_), std::move(where));
  }

  // Smaller reads are better off with the system's reading ahead.
  static constexpr std::size_t kDirectFrom = std::size_t{512} << 10;

  Descriptor file_;
  posix::DirectReads direct_{file_};
  std::uint64_t size_;
  std::string path_;
};

// ---- the file system
// --------------------------------------------------------------------------------------------------

Descriptor open_directory(const std::string& path, std::string_view action) {
  Descriptor directory(retry([&] { return ::open(native(path), O_RDONLY | O_DIRECTORY | O_CLOEXEC); }));
  if (!directory.valid()) fail(errno, action, path);
  return directory;
}

class PosixFs final : public Fs {
 public:
  std::unique_ptr<File> create(const std::string& path, const CreateOptions& options) override {
    Descriptor file(
        retry([&] { return ::open(native(path), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, mode_t(options.mode)); }));
    if (!file.valid()) fail(errno, "create the file", path);
    // Only when it differs: file systems without modes refuse any change.
    if (options.exact_mode && require_regular(file, path).mode != options.mode &&
        ::fchmod(file.get(), mode_t(options.mode)) != 0) {
      const int error = errno;
      ::unlink(native(path));
      fail(error, fmt::format("give the file mode {:04o}", options.mode), path);
    }
    Descriptor direct = options.path == WritePath::direct ? open_direct(path, file) : Descriptor();
    auto plain = std::make_unique<PosixFile>(std::move(file), path, options.path != WritePath::page_cache);
    auto queue = direct.valid() ? posix::make_uring_queue(std::move(direct)) : nullptr;
    if (queue == nullptr) return plain;
    return make_ring_file(std::move(plain), std::move(queue), file_size_limit());
  }

  std::unique_ptr<File> open_write(const std::string& path) override {
    Descriptor file(retry([&] { return ::open(native(path), O_WRONLY | O_CREAT | posix::kOwnFile, 0666); }));
    if (!file.valid()) fail_open(errno, "open the file for writing", path);
    if (require_regular(file, path).names > 1)
      fail_kind("expected a file of its own, found one with other names (hard links), which would change too", path);
    return std::make_unique<PosixFile>(std::move(file), path);
  }

  std::unique_ptr<ReadAt> open_read(const std::string& path) override {
    if (auto note = posix::note_of_held_lock(path)) return std::make_unique<MemoryReadAt>(std::move(*note), path);
    Descriptor file(retry([&] { return ::open(native(path), O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY); }));
    if (!file.valid()) fail_open(errno, "open the file for reading", path);
    const std::uint64_t size = require_regular(file, path).size;
    return std::make_unique<PosixReadAt>(std::move(file), size, path);
  }

  void rename(const std::string& from, const std::string& to) override {
    if (::rename(native(from), native(to)) == 0) return;
    // POSIX lets a system choose between the two names for a folder that is not empty.
    fail(errno == EEXIST ? ENOTEMPTY : errno, fmt::format("rename '{}' to this name", from), to);
  }

  void remove(const std::string& path) override {
    if (::unlink(native(path)) != 0) fail(errno, "remove the file", path);
  }

  void remove_directory(const std::string& path) override {
    if (::rmdir(native(path)) == 0) return;
    fail(errno == EEXIST ? ENOTEMPTY : errno, "remove the folder", path);
  }

  void sync_directory(const std::string& path) override {
    const Descriptor directory = open_directory(path, "open the folder to sync it");
    const int error = sync_descriptor(directory.get());
    // Some network and user-space file systems have no sync for folders and say so like this.
    if (error != 0 && error != EINVAL && error != ENOTSUP) fail(error, "sync the folder to disk", path);
  }

  bool make_directory(const std::string& path) override {
    if (::mkdir(native(path), 0777) == 0) return true;
    const int error = errno;
    const auto there = error == EEXIST ? status(path) : std::nullopt;
    if (!there || there->kind != FileKind::directory) fail(error, "create the folder", path);
    return false;
  }

  std::vector<std::string> list(const std::string& path) override {
    Descriptor directory = open_directory(path, "open the folder");
    const std::unique_ptr<DIR, int (*)(DIR*)> stream(::fdopendir(directory.get()), ::closedir);
    if (!stream) fail(errno, "open the folder", path);
    directory.release();
    std::vector<std::string> names;
    errno = 0;
    while (const dirent* entry = ::readdir(stream.get())) {
      const std::string_view name = entry->d_name;
      if (name != "." && name != "..") names.emplace_back(name);
      errno = 0;
    }
    if (errno != 0) fail(errno, "list the folder", path);
    std::sort(names.begin(), names.end());
    return names;
  }

  std::optional<FileStatus> status(const std::string& path) override {
    struct stat info {};
    if (::stat(native(path), &info) == 0) return to_status(info);
    if (errno != ENOENT && errno != ENOTDIR) fail(errno, "read the file's status", path);
    return std::nullopt;
  }

  std::string absolute(const std::string& path) override {
    std::error_code error;
    const auto absolute = std::filesystem::absolute(path, error);
    return error || path.empty() ? path : absolute.string();
  }
  std::optional<std::string> read_link(const std::string& path) override {
    std::string target(256, '\0');
    while (true) {
      const ssize_t length = ::readlink(native(path), target.data(), target.size());
      if (length < 0 && errno != EINVAL && errno != ENOENT && errno != ENOTDIR) fail(errno, "read the link", path);
      if (length < 0) return std::nullopt;
      if (static_cast<std::size_t>(length) < target.size()) {
        target.resize(static_cast<std::size_t>(length));
        return target;
      }
      target.resize(target.size() * 2);
    }
  }

  std::optional<std::uint64_t> free_space(const std::string& path) override {
    struct statvfs info {};
    if (retry([&] { return ::statvfs(native(path), &info); }) != 0) fail(errno, "read the free space", path);
    if (info.f_blocks == 0) return std::nullopt;
    return static_cast<std::uint64_t>(info.f_bavail) * info.f_frsize;
  }

  LockAttempt try_lock(const std::string& path, const std::string& note) override {
    return posix::try_lock(path, note);
  }
};

}  // namespace

Fs& posix_fs() noexcept {
  static PosixFs fs;
  return fs;
}

}  // namespace torchkeep
