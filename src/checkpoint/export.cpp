// SPDX-License-Identifier: BSD-3-Clause
// Plans of any format to published files and to streams.
#include <torchkeep/checkpoint/export.h>
#include <torchkeep/files/publish.h>

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

}  // namespace

void publish_plan(const Plan& plan, const std::string& path, const SaveOptions& options,
                  const std::function<void(File&)>& write) {
  Fs& fs = options.fs != nullptr ? *options.fs : posix_fs();
  const auto fill = [&](File& file) {
    write(file);
    if (options.durable && (options.read_back || options.consent)) file.sync();
    if (options.read_back) verify(file.path(), {.fs = &fs, .threads = options.threads});
    if (options.consent) options.consent();
  };
  publish(fs, path, fill,
          {.durable = options.durable,
           .size = plan.file_size,
           .write_path = write_path(options, plan.file_size),
           .replace_link = options.replace_link});
}

void save_plan(Plan plan, const std::string& path, const SaveOptions& options, const WriteProgress& on_progress) {
  publish_plan(plan, path, options, [&](File& file) { write_plan(plan, file, on_progress); });
}

void stream_plan(Plan plan, const std::function<void(Bytes)>& write) {
  StreamFile file(write);
  write_plan(plan, file);
}

}  // namespace torchkeep
