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

/// A file that a plan describes.
class PendingPlan final : public PendingCheckpoint {
 public:
  PendingPlan(Plan plan, const std::string& path, const SaveOptions& options)
      : plan_(std::move(plan)), threads_(options.threads) {
    Fs& fs = options.fs != nullptr ? *options.fs : posix_fs();
    file_ = fs.begin_publish(path, {.durable = options.durable,
                                    .size = plan_.file_size,
                                    .write_path = write_path(options, plan_.file_size),
                                    .replace_link = options.replace_link});
  }

  void write(const Progress& on_progress) override {
    explained([&] { write_plan(plan_, file_->file(), on_progress); });
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
  std::uint64_t size() const noexcept override { return plan_.file_size; }

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

  Plan plan_;
  unsigned threads_;
  std::unique_ptr<PendingFile> file_;
};

}  // namespace

std::unique_ptr<PendingCheckpoint> begin_plan(Plan plan, const std::string& path, const SaveOptions& options) {
  return std::make_unique<PendingPlan>(std::move(plan), path, options);
}

void save_plan(Plan plan, const std::string& path, const SaveOptions& options, const Progress& on_progress,
               const std::function<void()>& before_commit) {
  const auto pending = begin_plan(std::move(plan), path, options);
  commit(*pending, {.durable = options.durable,
                    .read_back = options.read_back,
                    .before_commit = before_commit,
                    .on_progress = on_progress});
}

void stream_plan(Plan plan, const std::function<void(Bytes)>& write) {
  StreamFile file(write);
  write_plan(plan, file);
}

}  // namespace torchkeep
