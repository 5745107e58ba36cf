// SPDX-License-Identifier: BSD-3-Clause
// A store of objects in memory, as small as one can be: CONTRIBUTING.md shows it to those who add a store.
#pragma once

#include <cerrno>
#include <cstring>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <string>

#include <torchkeep/base/error.h>
#include <torchkeep/files/stores.h>

namespace torchkeep::testing {

class ToyStore final : public ObjectStore {
 public:
  std::unique_ptr<PendingFile> begin_publish(const std::string& path, const PublishOptions&) override {
    return std::make_unique<Pending>(*this, path);
  }
  std::unique_ptr<ReadAt> open_read(const std::string& path) override {
    const std::lock_guard lock(mutex_);
    const auto found = objects_.find(path);
    if (found == objects_.end()) fail_missing("open the object", path);
    return std::make_unique<Object>(found->second, path);
  }
  void remove(const std::string& path) override {
    const std::lock_guard lock(mutex_);
    if (objects_.erase(path) == 0) fail_missing("remove the object", path);
  }
  std::vector<std::string> list(const std::string& path) override {
    const std::lock_guard lock(mutex_);
    std::set<std::string> names;
    for (const auto& [key, bytes] : objects_) {
      if (key.starts_with(path + "/"))
        names.insert(key.substr(path.size() + 1, key.find('/', path.size() + 1) - path.size() - 1));
    }
    if (names.empty()) fail_missing("list the folder", path);
    return {names.begin(), names.end()};
  }
  std::optional<FileStatus> status(const std::string& path) override {
    const std::lock_guard lock(mutex_);
    const auto found = objects_.find(path);
    if (found != objects_.end()) return FileStatus{.kind = FileKind::regular, .size = found->second->size()};
    const auto below = objects_.lower_bound(path + "/");
    if (below == objects_.end() || !below->first.starts_with(path + "/")) return std::nullopt;
    return FileStatus{.kind = FileKind::directory};
  }

 private:
  using Content = std::shared_ptr<const std::string>;

  /// An object that was put: it never changes, only its name may lead to another one.
  class Object final : public ReadAt {
   public:
    Object(Content content, std::string name) : content_(std::move(content)), name_(std::move(name)) {}
    std::uint64_t size() const override { return content_->size(); }
    void read_at(std::uint64_t offset, MutableBytes out) const override {
      if (offset > size() || out.size() > size() - offset)
        throw Error(Code::corrupt, "the object ends before these bytes",
                    {.file = name_, .record = {}, .offset = offset, .key = {}});
      if (!out.empty()) std::memcpy(out.data(), content_->data() + offset, out.size());
    }
    const std::string& name() const override { return name_; }

   private:
    Content content_;
    std::string name_;
  };

  /// An object that is being written, in memory that nobody else sees.
  class Pending final : public PendingFile {
   public:
    Pending(ToyStore& store, const std::string& path) : store_(store), buffer_(path) {}
    File& file() override { return buffer_; }
    void sync() override {}
    std::unique_ptr<ReadAt> open_read() override {
      return std::make_unique<Object>(std::make_shared<const std::string>(buffer_.bytes), buffer_.path());
    }
    void commit() override {
      const std::lock_guard lock(store_.mutex_);
      store_.objects_[buffer_.path()] = std::make_shared<const std::string>(std::move(buffer_.bytes));
    }
    [[noreturn]] void fail(const Error& error) override { throw Error(error); }

   private:
    struct Buffer final : File {
      explicit Buffer(std::string name) : path_(std::move(name)) {}
      void write_at(std::uint64_t offset, Bytes data) override {
        if (bytes.size() < offset + data.size()) bytes.resize(offset + data.size());
        if (!data.empty()) std::memcpy(bytes.data() + offset, data.data(), data.size());
      }
      bool reserve(std::uint64_t) override { return false; }
      void sync() override {}
      void close() override {}
      const std::string& path() const noexcept override { return path_; }
      std::string bytes;

     private:
      std::string path_;
    };
    ToyStore& store_;
    Buffer buffer_;
  };

  [[noreturn]] static void fail_missing(const char* action, const std::string& path) {
    throw Error::from_errno(ENOENT, action, {.file = path, .record = {}, .offset = {}, .key = {}});
  }

  std::mutex mutex_;
  std::map<std::string, Content> objects_;
};

}  // namespace torchkeep::testing
