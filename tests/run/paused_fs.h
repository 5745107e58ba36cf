// SPDX-License-Identifier: BSD-3-Clause
// A disk that stands still when it is told to, so that a save can be met in its middle.
#pragma once

#include <condition_variable>
#include <memory>
#include <mutex>
#include <string>

#include "support/fault_fs.h"

namespace torchkeep::testing {

/// Writes to new files wait while it is paused.
class PausedFs final : public FaultFs {
 public:
  explicit PausedFs(Fs& inner) : FaultFs(inner, {}) {}

  /// After so many more writes: then some of the state was read.
  void pause(int writes = 2) { set(true, writes); }
  void go_on() { set(false, 0); }
  /// Until a write waits.
  void wait_for_a_write() {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [this] { return waiting_ > 0; });
  }

  std::unique_ptr<File> create(const std::string& path, const CreateOptions& options) override {
    return std::make_unique<PausedFile>(*this, FaultFs::create(path, options));
  }

 private:
  class PausedFile final : public File {
   public:
    PausedFile(PausedFs& fs, std::unique_ptr<File> inner) : fs_(fs), inner_(std::move(inner)) {}
    void write_at(std::uint64_t offset, Bytes bytes) override {
      fs_.wait_while_paused();
      inner_->write_at(offset, bytes);
    }
    bool reserve(std::uint64_t size) override { return inner_->reserve(size); }
    void sync() override { inner_->sync(); }
    void close() override { inner_->close(); }
    const std::string& path() const noexcept override { return inner_->path(); }

   private:
    PausedFs& fs_;
    std::unique_ptr<File> inner_;
  };

  void set(bool paused, int writes) {
    const std::lock_guard lock(mutex_);
    paused_ = paused;
    pass_ = writes;
    changed_.notify_all();
  }
  void wait_while_paused() {
    std::unique_lock lock(mutex_);
    if (!paused_ || pass_-- > 0) return;
    ++waiting_;
    changed_.notify_all();
    changed_.wait(lock, [this] { return !paused_; });
    --waiting_;
  }

  std::mutex mutex_;
  std::condition_variable changed_;
  bool paused_ = false;
  int pass_ = 0;
  int waiting_ = 0;
};

}  // namespace torchkeep::testing
