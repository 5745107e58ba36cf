// SPDX-License-Identifier: BSD-3-Clause
// A BlockQueue without a kernel: what is under way waits in a list.
#include "support/ring_fs.h"

#include <algorithm>
#include <random>
#include <vector>

#include "ring_file.h"

namespace torchkeep::testing {
namespace {

/// The same open file for the ring and for the plain way; the last one closes it.
class SharedFile final : public File {
 public:
  explicit SharedFile(std::shared_ptr<File> inner) : inner_(std::move(inner)) {}
  void write_at(std::uint64_t offset, Bytes bytes) override { inner_->write_at(offset, bytes); }
  bool reserve(std::uint64_t size) override { return inner_->reserve(size); }
  void sync() override { inner_->sync(); }
  void close() override { inner_->close(); }
  const std::string& path() const noexcept override { return inner_->path(); }

 private:
  std::shared_ptr<File> inner_;
};

class LateQueue final : public BlockQueue {
 public:
  LateQueue(std::shared_ptr<File> file, const RingSettings& settings, std::shared_ptr<std::size_t> writes)
      : file_(std::move(file)),
        settings_(settings),
        writes_(std::move(writes)),
        memory_(settings.blocks * settings.block_size),
        random_(settings.seed) {}
  ~LateQueue() override {
    while (!started_.empty()) wait();
  }

  std::size_t alignment() const noexcept override { return settings_.alignment; }
  std::size_t count() const noexcept override { return settings_.blocks; }
  MutableBytes memory(std::size_t block) noexcept override {
    return std::span(memory_).subspan(block * settings_.block_size, settings_.block_size);
  }
  void start(std::size_t block, std::size_t size, std::uint64_t offset) noexcept override {
    started_.push_back({block, size, offset, number_++});
  }
  Done wait() noexcept override {
    std::swap(started_[random_() % started_.size()], started_.back());
    const Started write = started_.back();
    started_.pop_back();
    if (write.number >= settings_.refuse_from) return {write.block, 0, EINVAL};
    const std::size_t size = write.number == settings_.short_write ? write.size / 2 : write.size;
    ++*writes_;
    try {
      file_->write_at(write.offset, memory(write.block).first(size));
    } catch (const Error& error) {
      return {write.block, 0, error.system_error()};
    }
    return {write.block, size, 0};
  }
  int set_length(std::uint64_t) noexcept override { return 0; }

 private:
  struct Started {
    std::size_t block;
    std::size_t size;
    std::uint64_t offset;
    std::size_t number;
  };

  std::shared_ptr<File> file_;
  RingSettings settings_;
  std::shared_ptr<std::size_t> writes_;
  std::vector<std::byte> memory_;
  std::mt19937_64 random_;
  std::vector<Started> started_;
  std::size_t number_ = 0;
};

}  // namespace

std::unique_ptr<File> RingFs::create(const std::string& path, const CreateOptions& options) {
  const std::shared_ptr<File> file = inner_.create(path, options);
  return make_ring_file(std::make_unique<SharedFile>(file), std::make_unique<LateQueue>(file, settings_, writes_),
                        ~std::uint64_t{0});
}

}  // namespace torchkeep::testing
