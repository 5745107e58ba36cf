// SPDX-License-Identifier: BSD-3-Clause
// Views of raw bytes, a reader that cannot pass its end, and the seam from which formats read.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <torchkeep/base/error.h>

namespace torchkeep {

using Bytes = std::span<const std::byte>;
using MutableBytes = std::span<std::byte>;

/// The bytes of a text, without copying.
inline Bytes as_bytes(std::string_view text) noexcept {
  return std::as_bytes(std::span(text.data(), text.size()));
}
/// The text over bytes, without copying.
inline std::string_view as_text(Bytes bytes) noexcept {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

/// Random access to a file's bytes (or a buffer's). Safe to use from several threads at once.
class ReadAt {
 public:
  virtual ~ReadAt() = default;
  /// Total number of bytes.
  virtual std::uint64_t size() const = 0;
  /// Fills `out` from `offset`. Throws Error (corrupt) when that passes the end, Error (io) when the system fails.
  virtual void read_at(std::uint64_t offset, MutableBytes out) const = 0;
  /// `size` bytes from `offset` for a short look, at as few copies as can be: the view is valid until this thread's
  /// next call. Throws what read_at() throws.
  virtual Bytes look_at(std::uint64_t offset, std::size_t size) const {
    thread_local std::vector<std::byte> memory;
    if (memory.size() < size) memory.resize(size);
    read_at(offset, {memory.data(), size});
    return {memory.data(), size};
  }
  /// The name errors should give (a path; may be empty).
  virtual const std::string& name() const = 0;
  /// True when these bytes would come from the disk and not from memory: then large pieces, and several threads that
  /// wait for them, are the fastest way to read.
  virtual bool is_cold([[maybe_unused]] std::uint64_t offset, [[maybe_unused]] std::uint64_t size) const {
    return false;
  }
  /// All bytes mapped into memory, copy-on-write and unread; null where that cannot be done.
  virtual std::shared_ptr<const std::byte> map() const { return nullptr; }
};

/// A ReadAt over memory that it owns.
class MemoryReadAt final : public ReadAt {
 public:
  explicit MemoryReadAt(std::string bytes, std::string name = {}) : bytes_(std::move(bytes)), name_(std::move(name)) {}
  std::uint64_t size() const override { return bytes_.size(); }
  void read_at(std::uint64_t offset, MutableBytes out) const override {
    if (offset > bytes_.size() || out.size() > bytes_.size() - offset) {
      throw Error(Code::corrupt, "the file ends before these bytes",
                  {.file = name_, .record = {}, .offset = offset, .key = {}});
    }
    if (!out.empty()) std::memcpy(out.data(), bytes_.data() + offset, out.size());
  }
  const std::string& name() const override { return name_; }

 private:
  std::string bytes_;
  std::string name_;
};

/// Reads little-endian fields one after another and throws instead of passing the end.
/// `where` is put into the errors; its offset is replaced by `base` + the position.
class ByteReader {
 public:
  explicit ByteReader(Bytes bytes, Where where = {}, std::uint64_t base = 0)
      : bytes_(bytes), where_(std::move(where)), base_(base) {}

  std::size_t position() const noexcept { return position_; }
  std::size_t remaining() const noexcept { return bytes_.size() - position_; }
  void seek(std::size_t position) {
    if (position > bytes_.size()) fail("a position past the end");
    position_ = position;
  }

  /// An unsigned or signed integer, or a float, stored little-endian.
  template <class T>
  requires std::is_arithmetic_v<T> T read() {
    T value;
    const Bytes field = take(sizeof(T));
    std::memcpy(&value, field.data(), sizeof(T));
    return value;
  }

  /// The next `count` bytes; the view lives as long as the buffer read from.
  Bytes take(std::uint64_t count) {
    if (count > remaining()) fail("the data ends in the middle of a field");
    const Bytes field = bytes_.subspan(position_, static_cast<std::size_t>(count));
    position_ += static_cast<std::size_t>(count);
    return field;
  }

  [[noreturn]] void fail(std::string message, Code code = Code::corrupt) const {
    Where where = where_;
    where.offset = base_ + position_;
    throw Error(code, std::move(message), std::move(where));
  }

 private:
  Bytes bytes_;
  Where where_;
  std::uint64_t base_;
  std::size_t position_ = 0;
};

}  // namespace torchkeep
