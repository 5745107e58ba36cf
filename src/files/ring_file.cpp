// SPDX-License-Identifier: BSD-3-Clause
// The ring: fill, start, wait, and hand to the plain file what the queue cannot do.
#include "ring_file.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <exception>
#include <fmt/format.h>
#include <mutex>
#include <vector>

namespace torchkeep {
namespace {

/// The system refused this way of writing, not the bytes: the plain file will do.
bool is_refusal(int error) noexcept {
  return error == EINVAL || error == EOPNOTSUPP || error == ENOTSUP || error == ENOSYS || error == EAGAIN ||
         error == EINTR || error == ECANCELED || error == ENOMEM || error == EPERM || error == EBUSY;
}

class RingFile final : public File {
 public:
  RingFile(std::unique_ptr<File> plain, std::unique_ptr<BlockQueue> queue, std::uint64_t size_limit)
      : plain_(std::move(plain)), queue_(std::move(queue)), size_limit_(size_limit), blocks_(queue_->count()) {}

  void write_at(std::uint64_t offset, Bytes bytes) override {
    const std::lock_guard lock(mutex_);
    rethrow();
    if (bytes.empty()) return;
    const bool in_order = offset == position_ && offset <= size_limit_ && bytes.size() <= size_limit_ - offset;
    if (queue_ != nullptr && !in_order) guarded([&] { leave_ring(); });
    if (queue_ == nullptr) return plain_->write_at(offset, bytes);
    guarded([&] { fill(bytes); });
  }

  bool reserve(std::uint64_t size) override {
    const std::lock_guard lock(mutex_);
    const bool reserved = plain_->reserve(size);
    expected_ = std::max(expected_, size);
    return reserved;
  }

  void sync() override {
    finish();
    plain_->sync();
  }
  void close() override {
    finish();
    plain_->close();
  }
  const std::string& path() const noexcept override { return plain_->path(); }

 private:
  struct Block {
    std::uint64_t offset = 0;
    std::size_t size = 0;
    bool busy = false;
  };

  void rethrow() const {
    if (error_) std::rethrow_exception(error_);
  }

  /// Runs `act`; what it throws is thrown again by every later call, for the file is not what was written to it.
  template <class Act>
  void guarded(Act act) {
    try {
      act();
    } catch (...) {
      error_ = std::current_exception();
      queue_.reset();
      throw;
    }
  }

  void finish() {
    const std::lock_guard lock(mutex_);
    rethrow();
    if (queue_ != nullptr) guarded([&] { leave_ring(); });
  }

  void fill(Bytes bytes) {
    while (!bytes.empty()) {
      if (queue_ == nullptr) {  // given up in the middle of these bytes
        plain_->write_at(position_, bytes);
        position_ += bytes.size();
        return;
      }
      const MutableBytes room = queue_->memory(current_).subspan(filled_);
      const std::size_t size = std::min(room.size(), bytes.size());
      std::memcpy(room.data(), bytes.data(), size);
      bytes = bytes.subspan(size);
      filled_ += size;
      position_ += size;
      if (size == room.size()) start_current();
    }
  }

  void start_current() {
    set_length_once();
    start(filled_);
    filled_ = 0;
    current_ = (current_ + 1) % blocks_.size();
    while (blocks_[current_].busy) settle(queue_->wait());
    if (refused_) leave_ring();
  }

  /// A file that grows with every write is written one block at a time; one that has its length is not.
  void set_length_once() {
    if (started_ || expected_ <= position_) return;
    has_length_ = queue_->set_length(expected_) == 0;
  }

  void start(std::size_t size) {
    started_ = true;
    blocks_[current_] = {position_ - filled_, size, true};
    queue_->start(current_, size, position_ - filled_);
  }

  void settle(const BlockQueue::Done& done) {
    Block& block = blocks_[done.block];
    block.busy = false;
    if (done.error == 0 && done.written == block.size) return;
    if (done.error != 0 && !is_refusal(done.error)) {
      Where where;
      where.file = path();
      where.offset = block.offset;
      throw Error::from_errno(done.error, fmt::format("write {} bytes", block.size), std::move(where));
    }
    refused_ = true;
    const std::size_t written = done.error == 0 ? static_cast<std::size_t>(done.written) : 0;
    plain_->write_at(block.offset + written, queue_->memory(done.block).subspan(written, block.size - written));
  }

  void settle_all() {
    while (std::any_of(blocks_.begin(), blocks_.end(), [](const Block& block) { return block.busy; })) {
      settle(queue_->wait());
    }
  }

  /// Writes out all blocks and the tail; the plain file goes on from here.
  void leave_ring() {
    const std::size_t whole = refused_ ? 0 : filled_ / queue_->alignment() * queue_->alignment();
    if (whole > 0 && started_) start(whole);
    settle_all();
    const std::size_t begin = started_ ? whole : 0;
    const Bytes tail = queue_->memory(current_).subspan(begin, filled_ - begin);
    if (!tail.empty()) plain_->write_at(position_ - tail.size(), tail);
    if (has_length_ && position_ != expected_) shorten();
    queue_.reset();
    filled_ = 0;
  }

  void shorten() {
    const int error = queue_->set_length(position_);
    if (error == 0) return;
    Where where;
    where.file = path();
    throw Error::from_errno(error, fmt::format("cut the file at {} bytes", position_), std::move(where));
  }

  std::mutex mutex_;
  std::unique_ptr<File> plain_;
  std::unique_ptr<BlockQueue> queue_;  // null once the plain file does it all; destroyed first: it waits
  std::uint64_t size_limit_;
  std::vector<Block> blocks_;
  std::size_t current_ = 0;     // block being filled
  std::size_t filled_ = 0;      // bytes in it
  std::uint64_t position_ = 0;  // of the next byte in the file
  std::uint64_t expected_ = 0;  // length announced by reserve()
  bool has_length_ = false;     // the file was given the expected length
  bool started_ = false;        // a block was written past the cache
  bool refused_ = false;        // the queue cannot write this file
  std::exception_ptr error_;
};

}  // namespace

std::unique_ptr<File> make_ring_file(std::unique_ptr<File> plain, std::unique_ptr<BlockQueue> queue,
                                     std::uint64_t size_limit) {
  return std::make_unique<RingFile>(std::move(plain), std::move(queue), size_limit);
}

}  // namespace torchkeep
