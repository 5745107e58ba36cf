// SPDX-License-Identifier: BSD-3-Clause
// One file as a checkpoint that is committed, or as a stream.
#include <torchkeep/checkpoint/export.h>
#include <torchkeep/files/publish.h>
#include <torchkeep/format/check.h>

#include "threads.h"
#include "write_plan.h"

namespace torchkeep {
namespace {

// A stream as a File: what is written follows what was written before.
class StreamFile final : public File {
 public:
  explicit StreamFile(const std::function<void(Bytes)>& write) : write_(write) {}
  void write_at(std::uint64_t offset, Bytes bytes) override {
    if (offset != position_) throw Error(Code::invalid_argument, "a stream can only be written front to back");
    write_(bytes);
    position_ += bytes.size();
  }
  bool reserve(std::uint64_t) override { return false; }
  void sync() override {}
  void close() override {}
  const std::string& path() const noexcept override { return path_; }

 private:
  const std::function<void(Bytes)>& write_;
  std::uint64_t position_ = 0;
  std::string path_ = "<stream>";
};

// Below, setting the ring up and the fsync cost more than the bytes.
constexpr std::uint64_t kDirectFrom = std::uint64_t{4} << 20;

WritePath write_path(const SaveOptions& options, std::uint64_t file_size) {
  if (options.write_path) return *options.write_path;
  return options.durable && file_size >= kDirectFrom ? WritePath::direct : WritePath::page_cache;
}

using Write = std::function<void(File&, const Progress&)>;

/// A file that `write` fills, which keeps what it writes from.
class PendingPlan final : public PendingCheckpoint {
 public:
  PendingPlan(std::uint64_t size, const std::string& path, const SaveOptions& options, Write write)
      : size_(size), threads_(options.threads), write_(std::move(write)) {
    Fs& fs = options.fs != nullptr ? *options.fs : posix_fs();
    file_ = fs.begin_publish(path, {.durable = options.durable,
                                    .size = size,
                                    .write_path = write_path(options, size),
                                    .replace_link = options.replace_link});
  }

  void write(const Progress& on_progress) override {
    explained([&] { write_(file_->file(), on_progress); });
  }
  void sync() override {
    explained([&] { file_->sync(); });
  }
  void read_back() override {
    explained([&] {
      const FileCheck check = check_file(file_->open_read(), {.threads = reading_threads(threads_)});
      if (check.error) throw Error(*check.error);
    });
  }
  void publish() override { file_->commit(); }
  std::uint64_t size() const noexcept override { return size_; }

 private:
  /// Errors of the hidden file are told as errors of the one that it was to become.
  template <class Work>
  void explained(Work work) {
    try {
      work();
    } catch (const Error& error) {
      file_->fail(error);
    }
  }

  std::uint64_t size_;
  unsigned threads_;
  Write write_;
  std::unique_ptr<PendingFile> file_;
};

CommitSteps steps_of(const SaveOptions& options) {
  return {.durable = options.durable, .read_back = options.read_back};
}

}  // namespace

std::unique_ptr<PendingCheckpoint> begin_plan(Plan plan, const std::string& path, const SaveOptions& options) {
  const std::uint64_t size = plan.file_size;
  auto write = [plan = std::move(plan)](File& file, const Progress& on_progress) mutable {
    write_plan(plan, file, on_progress);
  };
  return std::make_unique<PendingPlan>(size, path, options, std::move(write));
}

void publish_plan(const Plan& plan, const std::string& path, const SaveOptions& options,
                  const std::function<void(File&)>& write) {
  PendingPlan pending(plan.file_size, path, options, [&](File& file, const Progress&) { write(file); });
  commit(pending, steps_of(options));
}

void save_plan(Plan plan, const std::string& path, const SaveOptions& options, const Progress& on_progress,
               const std::function<void()>& before_commit) {
  CommitSteps steps = steps_of(options);
  steps.before_commit = before_commit;
  steps.on_progress = on_progress;
  commit(*begin_plan(std::move(plan), path, options), steps);
}

void stream_plan(Plan plan, const std::function<void(Bytes)>& write) {
  StreamFile file(write);
  write_plan(plan, file);
}

}  // namespace torchkeep
