// SPDX-License-Identifier: BSD-3-Clause
// How a file is published, so that at every moment its name shows the old content or all of the new:
//
//   1 create   a hidden temporary file beside the target (same folder, hence same file system)
//   2 fill     it, after its space was reserved where the size is known
//   3 sync     and close it: its bytes are on stable storage before any name leads to them
//   4 rename   it over the target: the one atomic moment; old before, new after
//   5 sync     the folder: the name now leads to the new file after a power cut, too
//
// Without `durable`, the two syncs are left out. A failure in 1 to 4 removes the temporary file.
#include <algorithm>
#include <atomic>
#include <cerrno>
#include <filesystem>
#include <fmt/format.h>
#include <unistd.h>

#include <torchkeep/files/publish.h>

namespace torchkeep {
namespace {

constexpr int kLargestLinkDepth = 40;  // what Linux follows
constexpr int kTempNameAttempts = 1000;

Where at_file(const std::string& path) {
  Where where;
  where.file = path;
  return where;
}

/// The folder of a path; "." for a bare name.
std::string folder_of(const std::string& path) {
  const std::string parent = std::filesystem::path(path).parent_path().string();
  return parent.empty() ? "." : parent;
}

/// `name` in the folder of `sibling`, written as `sibling` is.
std::string beside(const std::string& sibling, std::string_view name) {
  return (std::filesystem::path(sibling).parent_path() / name).string();
}

/// The file that is really replaced, and how its successor is to be created.
struct Target {
  std::string path;
  std::string folder;
  bool exists = false;
  CreateOptions create;
};

Target find_target(Fs& fs, const std::string& path, const PublishOptions& options) {
  if (path.empty()) throw Error(Code::invalid_argument, "expected the path of a file, found an empty one");
  Target target;
  target.path = options.replace_link ? path : resolve_links(fs, path);
  target.folder = folder_of(target.path);
  auto there = fs.entry(target.path);
  if (there && there->kind == FileKind::link) there.reset();
  if (there ? there->kind == FileKind::directory : target.path.ends_with('/')) {
    throw Error(Code::invalid_argument, "expected a file, found a folder; name a file in it", at_file(path))
        .with_errno(EISDIR);
  }
  if (there && there->kind != FileKind::regular) {
    throw Error(Code::invalid_argument, "a device, pipe or socket cannot be replaced; name a file", at_file(path));
  }
  target.exists = there.has_value();
  if (there) target.create = {.mode = there->mode, .exact_mode = true};
  target.create.path = options.write_path;
  return target;
}

std::string next_temporary_name(std::string_view name) {
  static std::atomic<std::uint64_t> counter{0};
  return fmt::format(".{}{}tmp-{}-{}", name, name.empty() ? "" : ".", ::getpid(), counter++);
}

/// The temporary file; removed at the end unless it was renamed.
class Temporary final {
 public:
  Temporary(Fs& fs, const Target& target) : fs_(fs) {
    std::string name = std::filesystem::path(target.path).filename().string();
    for (int attempt = 1;; ++attempt) {
      path_ = beside(target.path, next_temporary_name(name));
      try {
        file_ = fs.create(path_, target.create);
        return;
      } catch (const Error& error) {
        // Left by a killed process that had our number, or the work of a namesake on another host.
        const bool taken = error.system_error() == EEXIST && attempt < kTempNameAttempts;
        const bool too_long = error.system_error() == ENAMETOOLONG && !name.empty();
        if (!taken && !too_long) throw;
        if (too_long) name.clear();
      }
    }
  }
  Temporary(const Temporary&) = delete;
  Temporary& operator=(const Temporary&) = delete;
  ~Temporary() { discard(); }

  File& file() { return *file_; }
  const std::string& path() const noexcept { return path_; }
  void renamed() noexcept { file_.reset(); }

  void discard() noexcept {
    if (file_ == nullptr) return;
    file_.reset();
    try {
      fs_.remove(path_);
    } catch (const std::exception&) {
      // The error that led here is the one to report; the name tells whoever holds the folder's lock to remove it.
    }
  }

 private:
  Fs& fs_;
  std::string path_;
  std::unique_ptr<File> file_;
};

/// Why the temporary file could not be created, in terms of the folder.
[[noreturn]] void fail_create(Fs& fs, const Target& target, const std::string& path, const Error& error) {
  if (error.system_error() == ENOENT || error.system_error() == ENOTDIR) {
    const auto folder = fs.status(target.folder);
    if (!folder) {
      throw Error(Code::not_found, fmt::format("the folder '{}' does not exist; create it first", target.folder),
                  at_file(path))
          .with_errno(error.system_error());
    }
    if (folder->kind != FileKind::directory) {
      throw Error(Code::invalid_argument, fmt::format("'{}' is not a folder", target.folder), at_file(path))
          .with_errno(error.system_error());
    }
  }
  throw Error(error.code(), fmt::format("{} (a temporary file in '{}')", error.message(), target.folder), at_file(path))
      .with_errno(error.system_error());
}

/// Free bytes beside the target; nothing when that cannot be told, which is no reason to fail.
std::optional<std::uint64_t> free_beside(Fs& fs, const Target& target) {
  try {
    return fs.free_space(target.folder);
  } catch (const Error&) {
    return std::nullopt;
  }
}

/// Reserves the space of the whole file, or finds out that it is not there.
void reserve(Fs& fs, File& file, const Target& target, std::uint64_t size) {
  if (file.reserve(size)) return;
  const auto free = free_beside(fs, target);
  if (free && *free < size) {
    throw Error::from_errno(ENOSPC, fmt::format("reserve {} bytes", size), at_file(file.path()));
  }
}

/// "; 1500000000 bytes needed; 4096 bytes free" when the disk or the quota is full.
std::string space_in_numbers(Fs& fs, const Target& target, const Error& error, std::optional<std::uint64_t> needed) {
  if (error.system_error() != ENOSPC && error.system_error() != EDQUOT) return {};
  const auto free = free_beside(fs, target);
  return (needed ? fmt::format("; {} bytes needed", *needed) : "") +
         (free ? fmt::format("; {} bytes free", *free) : "");
}

/// An error of the temporary file told as one of the file that was to be published. Errors about other files (what
/// `fill` reads from) pass unchanged.
[[noreturn]] void fail_publish(Fs& fs, const Target& target, const std::string& path, const std::string& temporary,
                               const Error& error, std::optional<std::uint64_t> needed) {
  if (error.where().file != temporary && error.where().file != target.path) throw Error(error);
  Where where = error.where();
  where.file = path;
  throw Error(error.code(),
              fmt::format("{}{}{}", error.message(), space_in_numbers(fs, target, error, needed),
                          target.exists ? "; the file that was there is unchanged" : ""),
              std::move(where))
      .with_errno(error.system_error());
}

std::unique_ptr<Temporary> create_temporary(Fs& fs, const Target& target, const std::string& path) {
  try {
    return std::make_unique<Temporary>(fs, target);
  } catch (const Error& error) {
    fail_create(fs, target, path, error);
  }
}

void sync_folder(Fs& fs, const Target& target, const std::string& path) {
  try {
    fs.sync_directory(target.folder);
  } catch (const Error& error) {
    throw Error(error.code(),
                fmt::format("the new file is in place, but not safe from a power cut: {} ('{}')", error.message(),
                            target.folder),
                at_file(path))
        .with_errno(error.system_error());
  }
}

bool is_number(std::string_view text) noexcept {
  return !text.empty() && text.find_first_not_of("0123456789") == std::string_view::npos;
}

/// A temporary file beside the one that it becomes.
class PendingSibling final : public PendingFile {
 public:
  PendingSibling(Fs& fs, const std::string& path, const PublishOptions& options)
      : fs_(fs), path_(path), options_(options), target_(find_target(fs, path, options)) {
    temporary_ = create_temporary(fs_, target_, path_);  // 1
    try {
      if (options_.size) reserve(fs_, file(), target_, *options_.size);
    } catch (const Error& error) {
      fail(error);
    }
  }

  File& file() override { return temporary_->file(); }
  void sync() override {
    file().sync();  // 3
    synced_ = true;
  }
  std::unique_ptr<ReadAt> open_read() override { return fs_.open_read(temporary_->path()); }

  void commit() override {
    try {
      if (options_.durable && !synced_) sync();
      file().close();
      fs_.rename(temporary_->path(), target_.path);  // 4
      temporary_->renamed();
    } catch (const Error& error) {
      fail(error);
    }
    if (options_.durable) sync_folder(fs_, target_, path_);  // 5
  }

  [[noreturn]] void fail(const Error& error) override {
    temporary_->discard();
    fail_publish(fs_, target_, path_, temporary_->path(), error, options_.size);
  }

 private:
  Fs& fs_;
  std::string path_;
  PublishOptions options_;
  Target target_;
  std::unique_ptr<Temporary> temporary_;
  bool synced_ = false;
};

}  // namespace

std::unique_ptr<PendingFile> Fs::begin_publish(const std::string& path, const PublishOptions& options) {
  return std::make_unique<PendingSibling>(*this, path, options);
}

void publish(Fs& fs, const std::string& path, const std::function<void(File&)>& fill, const PublishOptions& options) {
  const auto pending = fs.begin_publish(path, options);  // 1
  try {
    fill(pending->file());  // 2
  } catch (const Error& error) {
    pending->fail(error);
  }
  pending->commit();  // 3, 4, 5
}

void publish(Fs& fs, const std::string& path, Bytes bytes, const PublishOptions& options) {
  PublishOptions with_size = options;
  with_size.size = bytes.size();
  publish(
      fs, path, [bytes](File& file) { file.write_at(0, bytes); }, with_size);
}

std::string resolve_links(Fs& fs, const std::string& path) {
  std::string resolved = path;
  for (int depth = 0; depth <= kLargestLinkDepth; ++depth) {
    const auto target = fs.read_link(resolved);
    if (!target) return resolved;
    resolved = beside(resolved, *target);  // an absolute target replaces everything
  }
  throw Error::from_errno(ELOOP, "follow the links", at_file(path));
}

bool is_temporary_name(std::string_view name) noexcept {
  return temporary_target(name).has_value();
}

std::optional<std::string_view> temporary_target(std::string_view name) noexcept {
  constexpr std::string_view kMark = ".tmp-";
  const std::size_t mark = name.rfind(kMark);
  if (!name.starts_with('.') || mark == std::string_view::npos) return std::nullopt;
  const std::string_view numbers = name.substr(mark + kMark.size());
  const std::size_t dash = numbers.find('-');
  if (dash == std::string_view::npos || !is_number(numbers.substr(0, dash)) || !is_number(numbers.substr(dash + 1)))
    return std::nullopt;
  return mark == 0 ? std::string_view() : name.substr(1, mark - 1);
}

std::size_t remove_temporaries(Fs& fs, const std::string& directory, std::span<const std::string_view> targets) {
  std::size_t removed = 0;
  for (const std::string& name : fs.list(directory)) {
    const auto target = temporary_target(name);
    if (!target) continue;
    if (!targets.empty() && std::find(targets.begin(), targets.end(), *target) == targets.end()) continue;
    const std::string path = (std::filesystem::path(directory) / name).string();
    const auto there = fs.entry(path);
    if (!there || there->kind != FileKind::regular) continue;
    fs.remove(path);
    ++removed;
  }
  return removed;
}

std::unique_ptr<File> open_log(Fs& fs, const std::string& path) {
  const auto there = fs.entry(path);
  if (there && there->kind == FileKind::regular && there->names > 1) {
    const auto file = fs.open_read(path);
    std::string content(static_cast<std::size_t>(file->size()), '\0');
    file->read_at(0, std::as_writable_bytes(std::span(content)));
    publish(fs, path, as_bytes(content), {.replace_link = true});
  }
  return fs.open_write(path);
}

void mark(Fs& fs, const std::string& path) {
  if (fs.entry(path)) return;
  try {
    fs.create(path, {})->close();
  } catch (const Error& error) {
    if (error.system_error() != EEXIST) throw;
  }
}

void make_directories(Fs& fs, const std::string& path, bool durable) {
  if (path.empty()) throw Error(Code::invalid_argument, "expected the path of a folder, found an empty one");
  const auto there = fs.status(path);
  if (there && there->kind == FileKind::directory) return;
  if (there) throw Error(Code::invalid_argument, "a file stands where a folder is wanted", at_file(path));
  // "a/b/" names the same folder as "a/b".
  std::string folder = path;
  while (folder.size() > 1 && folder.ends_with('/')) folder.pop_back();
  const std::string parent = folder_of(folder);
  if (parent != folder) make_directories(fs, parent, durable);
  if (fs.read_link(folder)) {
    throw Error(Code::invalid_argument, "a symbolic link that leads nowhere stands where a folder is wanted",
                at_file(path));
  }
  if (fs.make_directory(folder) && durable) fs.sync_directory(parent);
}

}  // namespace torchkeep
