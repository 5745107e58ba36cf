// SPDX-License-Identifier: BSD-3-Clause
#include "support/fault_fs.h"

#include <type_traits>

namespace torchkeep::testing {

bool FaultFs::happened() const {
  const std::lock_guard guard(mutex_);
  return fault_.call != 0 && counted_ >= fault_.call;
}

std::vector<std::string> FaultFs::calls() const {
  const std::lock_guard guard(mutex_);
  return calls_;
}

bool FaultFs::count(const std::string& call) {
  const std::lock_guard guard(mutex_);
  calls_.push_back(call);
  if (!call.starts_with(fault_.only)) return false;
  ++counted_;
  return fault_.call != 0 && (fault_.and_ever_after ? counted_ >= fault_.call : counted_ == fault_.call);
}

void FaultFs::fail(const std::string& action, const std::string& path) const {
  Where where;
  where.file = path;
  throw Error::from_errno(fault_.error, action, std::move(where));
}

template <class Act>
auto FaultFs::pass(const std::string& action, const std::string& path, Act act) {
  const bool faulty = count(action + " " + path);
  if (faulty && fault_.when != Fault::When::after) fail(action, path);
  if constexpr (std::is_void_v<decltype(act())>) {
    act();
    if (faulty) fail(action, path);
  } else {
    auto result = act();
    if (faulty) fail(action, path);
    return result;
  }
}

class FaultFs::FaultyFile final : public File {
 public:
  FaultyFile(FaultFs& fs, std::unique_ptr<File> inner) : fs_(fs), inner_(std::move(inner)) {}

  void write_at(std::uint64_t offset, Bytes bytes) override {
    const std::string action = "write " + std::to_string(bytes.size()) + " bytes";
    const bool faulty = fs_.count(action + " " + path());
    if (faulty && fs_.fault_.when == Fault::When::before) fs_.fail(action, path());
    const bool half = faulty && fs_.fault_.when == Fault::When::halfway;
    inner_->write_at(offset, half ? bytes.first(bytes.size() / 2) : bytes);
    if (faulty) fs_.fail(action, path());
  }
  bool reserve(std::uint64_t size) override {
    return fs_.pass("reserve", path(), [&] { return inner_->reserve(size); });
  }
  void sync() override {
    fs_.pass("sync", path(), [&] { inner_->sync(); });
  }
  void close() override {
    fs_.pass("close", path(), [&] { inner_->close(); });
  }
  const std::string& path() const noexcept override { return inner_->path(); }

 private:
  FaultFs& fs_;
  std::unique_ptr<File> inner_;
};

class FaultFs::FaultyReader final : public ReadAt {
 public:
  FaultyReader(FaultFs& fs, std::unique_ptr<ReadAt> inner) : fs_(fs), inner_(std::move(inner)) {}

  std::uint64_t size() const override { return inner_->size(); }
  void read_at(std::uint64_t offset, MutableBytes out) const override {
    fs_.pass("read", name(), [&] { inner_->read_at(offset, out); });
  }
  const std::string& name() const override { return inner_->name(); }
  Bytes look_at(std::uint64_t offset, std::size_t size) const override {
    return fs_.pass("read", name(), [&] { return inner_->look_at(offset, size); });
  }
  bool is_cold(std::uint64_t offset, std::uint64_t size) const override { return inner_->is_cold(offset, size); }

 private:
  FaultFs& fs_;
  std::unique_ptr<ReadAt> inner_;
};

class FaultFs::FaultyLock final : public FileLock {
 public:
  FaultyLock(FaultFs& fs, std::unique_ptr<FileLock> inner, std::string path)
      : fs_(fs), inner_(std::move(inner)), path_(std::move(path)) {}

  void confirm() override {
    fs_.pass("confirm the lock", path_, [&] { inner_->confirm(); });
  }

 private:
  FaultFs& fs_;
  std::unique_ptr<FileLock> inner_;
  std::string path_;
};

std::unique_ptr<File> FaultFs::create(const std::string& path, const CreateOptions& options) {
  return std::make_unique<FaultyFile>(*this, pass("create", path, [&] { return inner_.create(path, options); }));
}

std::unique_ptr<File> FaultFs::open_write(const std::string& path) {
  return std::make_unique<FaultyFile>(*this, pass("open for writing", path, [&] { return inner_.open_write(path); }));
}

std::unique_ptr<ReadAt> FaultFs::open_read(const std::string& path) {
  return std::make_unique<FaultyReader>(*this, pass("open for reading", path, [&] { return inner_.open_read(path); }));
}

void FaultFs::rename(const std::string& from, const std::string& to) {
  pass("rename " + from + " ->", to, [&] { inner_.rename(from, to); });
}

void FaultFs::remove_directory(const std::string& path) {
  pass("remove folder", path, [&] { inner_.remove_directory(path); });
}

void FaultFs::remove(const std::string& path) {
  pass("remove", path, [&] { inner_.remove(path); });
}

void FaultFs::sync_directory(const std::string& path) {
  pass("sync the folder", path, [&] { inner_.sync_directory(path); });
}

bool FaultFs::make_directory(const std::string& path) {
  return pass("create the folder", path, [&] { return inner_.make_directory(path); });
}

std::vector<std::string> FaultFs::list(const std::string& path) {
  return pass("list", path, [&] { return inner_.list(path); });
}

std::optional<FileStatus> FaultFs::status(const std::string& path) {
  return pass("read the status", path, [&] { return inner_.status(path); });
}

std::optional<std::string> FaultFs::read_link(const std::string& path) {
  return pass("read the link", path, [&] { return inner_.read_link(path); });
}

std::optional<std::uint64_t> FaultFs::free_space(const std::string& path) {
  return pass("read the free space", path, [&] { return inner_.free_space(path); });
}

LockAttempt FaultFs::try_lock(const std::string& path, const std::string& note) {
  LockAttempt attempt = pass("lock", path, [&] { return inner_.try_lock(path, note); });
  if (attempt.lock) attempt.lock = std::make_unique<FaultyLock>(*this, std::move(attempt.lock), path);
  return attempt;
}

}  // namespace torchkeep::testing
