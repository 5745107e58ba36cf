// SPDX-License-Identifier: BSD-3-Clause
// The bytes of a file object as the only file of a file system.
#include "source.h"

#include <cstring>

#include <torchkeep/base/error.h>
#include <torchkeep/files/stores.h>

namespace torchkeep::python {
namespace {

/// A view of a bytes object, which it keeps.
class BytesFile final : public ReadAt {
 public:
  BytesFile(Shared owner, Bytes bytes, std::string name)
      : owner_(std::move(owner)), bytes_(bytes), name_(std::move(name)) {}
  std::uint64_t size() const override { return bytes_.size(); }
  void read_at(std::uint64_t offset, MutableBytes out) const override {
    const Bytes there = look_at(offset, out.size());
    if (!out.empty()) std::memcpy(out.data(), there.data(), out.size());
  }
  Bytes look_at(std::uint64_t offset, std::size_t size) const override {
    if (offset > bytes_.size() || size > bytes_.size() - offset)
      throw Error(Code::corrupt, "the file ends before these bytes",
                  {.file = name_, .record = {}, .offset = offset, .key = {}});
    return bytes_.subspan(static_cast<std::size_t>(offset), size);
  }
  const std::string& name() const override { return name_; }

 private:
  Shared owner_;
  Bytes bytes_;
  std::string name_;
};

class BytesFs final : public Fs {
 public:
  BytesFs(nb::object data, std::string name) : name_(std::move(name)) {
    const std::string_view content = bytes_of(data.ptr());
    bytes_ = {reinterpret_cast<const std::byte*>(content.data()), content.size()};
    owner_ = share(std::move(data));
  }
  std::unique_ptr<ReadAt> open_read(const std::string& path) override {
    if (path != name_) refuse(path);
    return std::make_unique<BytesFile>(owner_, bytes_, name_);
  }
  std::optional<FileStatus> status(const std::string& path) override {
    if (path != name_) return std::nullopt;
    return FileStatus{.kind = FileKind::regular, .size = bytes_.size()};
  }
  std::optional<std::string> read_link(const std::string&) override { return std::nullopt; }
  std::optional<std::uint64_t> free_space(const std::string&) override { return std::nullopt; }

  std::unique_ptr<File> create(const std::string& path, const CreateOptions&) override { refuse(path); }
  std::unique_ptr<File> open_write(const std::string& path) override { refuse(path); }
  void rename(const std::string& from, const std::string&) override { refuse(from); }
  void remove(const std::string& path) override { refuse(path); }
  void remove_directory(const std::string& path) override { refuse(path); }
  void sync_directory(const std::string& path) override { refuse(path); }
  bool make_directory(const std::string& path) override { refuse(path); }
  std::vector<std::string> list(const std::string& path) override { refuse(path); }
  LockAttempt try_lock(const std::string& path, const std::string&) override { refuse(path); }

 private:
  [[noreturn]] void refuse(const std::string& path) const {
    throw Error(Code::unsupported, "a file object has no other files beside it; give the path of the file",
                {.file = name_, .record = path, .offset = {}, .key = {}});
  }
  std::string name_;
  Shared owner_;
  Bytes bytes_;
};

}  // namespace

Source::Source(nb::handle from, Watch& watch) {
  if (PyTuple_Check(from.ptr()) != 0) {
    path_ = to_text(from[0].ptr());
    bytes_ = std::make_unique<BytesFs>(nb::object(from[1]), path_);
  } else {
    path_ = to_path(from);
  }
  fs_ = std::make_unique<WatchedFs>(bytes_ ? *bytes_ : any_store(), watch);
}

}  // namespace torchkeep::python
