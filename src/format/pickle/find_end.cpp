// SPDX-License-Identifier: BSD-3-Clause
// Finds the end of a pickle in a file that goes on behind it: instructions are passed over, not run.
#include <algorithm>
#include <cstring>
#include <fmt/format.h>
#include <string>

#include "opcodes.h"
#include "pickle.h"

namespace torchkeep::pickle {
namespace {

// What follows an instruction: so many bytes, so many lines, or a length of so many bytes and then as many as it says.
struct Operand {
  std::uint8_t bytes = 0;
  std::uint8_t lines = 0;
  std::uint8_t length = 0;
};

Operand operand(Op op) noexcept {
  switch (op) {
    case Op::proto:
    case Op::bin_int1:
    case Op::bin_get:
    case Op::bin_put:
    case Op::ext1:
      return {.bytes = 1};
    case Op::bin_int2:
    case Op::ext2:
      return {.bytes = 2};
    case Op::bin_int:
    case Op::long_bin_get:
    case Op::long_bin_put:
    case Op::ext4:
      return {.bytes = 4};
    case Op::bin_float:
    case Op::frame:
      return {.bytes = 8};
    case Op::int_text:
    case Op::long_text:
    case Op::float_text:
    case Op::string:
    case Op::unicode:
    case Op::pers_id:
    case Op::get:
    case Op::put:
      return {.lines = 1};
    case Op::global:
    case Op::inst:
      return {.lines = 2};
    case Op::long1:
    case Op::short_bin_string:
    case Op::short_bin_unicode:
    case Op::short_bin_bytes:
      return {.length = 1};
    case Op::long4:
    case Op::bin_string:
    case Op::bin_unicode:
    case Op::bin_bytes:
      return {.length = 4};
    case Op::bin_unicode8:
    case Op::bin_bytes8:
    case Op::byte_array8:
      return {.length = 8};
    default:
      return {};
  }
}

/// Walks through a file, holding one block of it.
class Walker {
 public:
  Walker(const ReadAt& file, std::uint64_t begin, std::uint64_t end, std::uint64_t limit)
      : file_(file), begin_(begin), end_(end), limit_(limit), position_(begin) {}

  std::uint64_t run() {
    for (;;) {
      const auto op = static_cast<Op>(next());
      if (op == Op::stop) return position_;
      const Operand follows = operand(op);
      skip(follows.bytes);
      for (int i = 0; i < follows.lines; ++i) skip_line();
      if (follows.length != 0) skip(read_length(follows.length));
    }
  }

 private:
  static constexpr std::uint64_t kFirstBlock = std::uint64_t{4} << 10;
  static constexpr std::uint64_t kBlock = std::uint64_t{1} << 20;

  [[noreturn]] void fail(Code code, std::string message) const {
    throw Error(code, std::move(message), {.file = file_.name(), .record = {}, .offset = position_, .key = {}});
  }

  std::uint8_t next() {
    if (position_ - block_begin_ >= block_.size()) fill();
    return static_cast<std::uint8_t>(block_[position_++ - block_begin_]);
  }

  // Most pickles are short, and only the first block of a long one is.
  void fill() {
    if (position_ >= end_) fail(Code::corrupt, "the pickle ends without STOP");
    if (position_ - begin_ > limit_) {
      fail(Code::refused, fmt::format("a pickle of more than {} bytes (Limits::max_pickle_bytes)", limit_));
    }
    const std::uint64_t size = std::min(block_.empty() ? kFirstBlock : kBlock, end_ - position_);
    block_.resize(static_cast<std::size_t>(size));
    file_.read_at(position_, std::as_writable_bytes(std::span(block_)));
    block_begin_ = position_;
  }

  void skip(std::uint64_t count) {
    if (count > end_ - position_) fail(Code::corrupt, "the pickle ends in the middle of an instruction");
    position_ += count;
  }

  void skip_line() {
    for (;;) {
      if (position_ - block_begin_ >= block_.size()) fill();
      const std::size_t begin = static_cast<std::size_t>(position_ - block_begin_);
      const std::size_t line_end = block_.find('\n', begin);
      if (line_end != std::string::npos) {
        position_ += line_end + 1 - begin;
        return;
      }
      position_ = block_begin_ + block_.size();
    }
  }

  // A negative i32 becomes a length that passes the end.
  std::uint64_t read_length(int bytes) {
    std::uint64_t length = 0;
    for (int i = 0; i < bytes; ++i) length |= static_cast<std::uint64_t>(next()) << (8 * i);
    return length;
  }

  const ReadAt& file_;
  std::uint64_t begin_;
  std::uint64_t end_;
  std::uint64_t limit_;
  std::uint64_t position_;
  std::string block_;
  std::uint64_t block_begin_ = 0;
};

}  // namespace

std::uint64_t find_end(const ReadAt& file, std::uint64_t begin, std::uint64_t end, std::uint64_t limit) {
  return Walker(file, begin, end, limit).run();
}

}  // namespace torchkeep::pickle
