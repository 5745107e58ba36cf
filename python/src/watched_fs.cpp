// SPDX-License-Identifier: BSD-3-Clause
// Files whose reads and writes are counted.
#include "watched_fs.h"

#include <algorithm>

namespace torchkeep::python {
namespace {

constexpr std::chrono::milliseconds kInterval{50};

class WatchedFile final : public File {
 public:
  WatchedFile(std::unique_ptr<File> file, Watch& watch, Shared before_write)
      : file_(std::move(file)), watch_(watch), before_write_(std::move(before_write)) {}
  void write_at(std::uint64_t offset, Bytes bytes) override {
    if (before_write_ != nullptr) {
      const nb::gil_scoped_acquire gil;
      nb::handle(before_write_.get())(offset);
    }
    file_->write_at(offset, bytes);
    watch_.count(bytes.size());
  }
  bool reserve(std::uint64_t size) override {
    watch_.expect(size);
    return file_->reserve(size);
  }
  void sync() override { file_->sync(); }
  void close() override { file_->close(); }
  const std::string& path() const noexcept override { return file_->path(); }

 private:
  std::unique_ptr<File> file_;
  Watch& watch_;
  Shared before_write_;
};

class WatchedReadAt final : public ReadAt {
 public:
  WatchedReadAt(std::unique_ptr<ReadAt> file, Watch& watch) : file_(std::move(file)), watch_(watch) {}
  std::uint64_t size() const override { return file_->size(); }
  void read_at(std::uint64_t offset, MutableBytes out) const override {
    file_->read_at(offset, out);
    watch_.count(out.size());
  }
  Bytes look_at(std::uint64_t offset, std::size_t size) const override {
    watch_.count(size);  // before: it may run a program's code, which may look at a file too and so end this look
    return file_->look_at(offset, size);
  }
  const std::string& name() const override { return file_->name(); }
  bool is_cold(std::uint64_t offset, std::uint64_t size) const override { return file_->is_cold(offset, size); }

 private:
  std::unique_ptr<ReadAt> file_;
  Watch& watch_;
};

}  // namespace

Watch::Watch(nb::object progress) : progress_(progress.is_none() ? nullptr : share(std::move(progress))) {}
Watch::~Watch() = default;

void Watch::count(std::uint64_t bytes) {
  done_.fetch_add(bytes);
  if (std::this_thread::get_id() != owner_) return;
  const auto now = std::chrono::steady_clock::now();
  if (now - last_ < kInterval) return;
  last_ = now;
  const nb::gil_scoped_acquire gil;
  look_up();
}

void Watch::look_up() {
  if (PyErr_CheckSignals() != 0) throw Interrupted();
  if (progress_ == nullptr) return;
  try {
    nb::handle(progress_.get())(done_.load(), total_.load());
  } catch (nb::python_error& error) {
    error.restore();
    throw Interrupted();
  }
}

void Watch::end() {
  const std::uint64_t all = std::max(done_.load(), total_.load());
  if (progress_ != nullptr) nb::handle(progress_.get())(all, all);
}

std::unique_ptr<File> WatchedFs::create(const std::string& path, const CreateOptions& options) {
  return std::make_unique<WatchedFile>(fs_.create(path, options), watch_, before_write_);
}

std::unique_ptr<ReadAt> WatchedFs::open_read(const std::string& path) {
  auto file = fs_.open_read(path);
  {
    const std::lock_guard lock(mutex_);
    if (opened_.insert(path).second) watch_.expect_more(file->size());
  }
  return std::make_unique<WatchedReadAt>(std::move(file), watch_);
}

void look_for_signals() {
  const nb::gil_scoped_acquire gil;
  if (PyErr_CheckSignals() != 0) throw Interrupted();
}

}  // namespace torchkeep::python
