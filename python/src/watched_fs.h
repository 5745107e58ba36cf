// SPDX-License-Identifier: BSD-3-Clause
// A file system that looks up from its work from time to time: for Ctrl-C, and to move a progress bar.
#pragma once

#include <atomic>
#include <chrono>
#include <mutex>
#include <set>
#include <string>
#include <thread>

#include <torchkeep/files/fs.h>

#include "python.h"

namespace torchkeep::python {

/// Ends an operation whose Python exception (KeyboardInterrupt, or one of the progress callback) is set in the thread
/// state of the thread that began it.
struct Interrupted {};
/// Ctrl-C, while the training's thread waits for a save or for other ranks: throws Interrupted. Without the GIL.
void look_for_signals();

/// Counts bytes. In the thread that made it, and at most every 50 ms, it takes the GIL, lets pending signal handlers
/// run, and calls `progress(done, total)` unless that is None.
class Watch {
 public:
  explicit Watch(nb::object progress = nb::none());
  ~Watch();
  Watch(const Watch&) = delete;
  Watch& operator=(const Watch&) = delete;

  void expect(std::uint64_t bytes) noexcept { total_.store(bytes); }
  void expect_more(std::uint64_t bytes) noexcept { total_.fetch_add(bytes); }
  /// As many bytes once more.
  void expect_again() noexcept { total_.store(2 * total_.load()); }
  /// Throws Interrupted.
  void count(std::uint64_t bytes);
  /// The bar's last position. With the GIL.
  void end();

 private:
  void look_up();

  Shared progress_;  // null: none
  std::thread::id owner_ = std::this_thread::get_id();
  std::chrono::steady_clock::time_point last_ = std::chrono::steady_clock::now();
  std::atomic<std::uint64_t> done_{0};
  std::atomic<std::uint64_t> total_{0};
};

/// `fs` as seen through a Watch; both must outlive what it opens.
class WatchedFs final : public Fs {
 public:
  /// `before_write`, unless it is None, is called with the offset before every write to a new file, in the thread that
  /// writes: tests stop it there.
  explicit WatchedFs(Fs& fs, Watch& watch, nb::object before_write = nb::none())
      : fs_(fs), watch_(watch), before_write_(before_write.is_none() ? nullptr : share(std::move(before_write))) {}

  bool can(Capability what, const std::string& path) const noexcept override { return fs_.can(what, path); }
  /// Where the store writes in place, its files are watched; objects are put whole.
  std::unique_ptr<PendingFile> begin_publish(const std::string& path, const PublishOptions& options) override {
    return fs_.can(Capability::rename, path) ? Fs::begin_publish(path, options) : fs_.begin_publish(path, options);
  }
  std::unique_ptr<File> create(const std::string& path, const CreateOptions& options) override;
  std::unique_ptr<File> open_write(const std::string& path) override { return fs_.open_write(path); }
  std::unique_ptr<ReadAt> open_read(const std::string& path) override;
  void rename(const std::string& from, const std::string& to) override { fs_.rename(from, to); }
  void remove(const std::string& path) override { fs_.remove(path); }
  void remove_directory(const std::string& path) override { fs_.remove_directory(path); }
  void sync_directory(const std::string& path) override { fs_.sync_directory(path); }
  bool make_directory(const std::string& path) override { return fs_.make_directory(path); }
  std::vector<std::string> list(const std::string& path) override { return fs_.list(path); }
  std::optional<FileStatus> status(const std::string& path) override { return fs_.status(path); }
  std::optional<std::string> read_link(const std::string& path) override { return fs_.read_link(path); }
  std::optional<std::uint64_t> free_space(const std::string& path) override { return fs_.free_space(path); }
  std::string absolute(const std::string& path) override { return fs_.absolute(path); }
  LockAttempt try_lock(const std::string& path, const std::string& note) override { return fs_.try_lock(path, note); }

 private:
  std::mutex mutex_;
  std::set<std::string> opened_;  // whose bytes are expected
  Fs& fs_;
  Watch& watch_;
  Shared before_write_;  // null: none
};

/// Calls `work` without the GIL; an interruption becomes the Python exception that caused it.
template <class Work>
auto without_gil(Work work) {
  try {
    const nb::gil_scoped_release released;
    return work();
  } catch (const Interrupted&) {
    throw nb::python_error();
  }
}

}  // namespace torchkeep::python
