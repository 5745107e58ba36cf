// SPDX-License-Identifier: BSD-3-Clause
// Fields one behind the other: little-endian integers, and strings with their length before them.
#pragma once

#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>

#include <torchkeep/base/bytes.h>

namespace torchkeep::detail {

class FieldWriter {
 public:
  template <class T>
  requires std::is_integral_v<T> FieldWriter& number(T value) {
    char field[sizeof(T)];
    std::memcpy(field, &value, sizeof(T));
    bytes_.append(field, sizeof(T));
    return *this;
  }
  FieldWriter& string(std::string_view value) {
    number<std::uint64_t>(value.size());
    bytes_ += value;
    return *this;
  }
  std::string take() { return std::move(bytes_); }

 private:
  std::string bytes_;
};

/// Reads what FieldWriter wrote. Throws Error (corrupt) instead of passing the end.
class FieldReader {
 public:
  FieldReader(std::string_view bytes, std::string what)
      : reader_(as_bytes(bytes), {.file = {}, .record = std::move(what), .offset = {}, .key = {}}) {}

  template <class T>
  T number() {
    return reader_.read<T>();
  }
  std::string string() { return std::string(as_text(reader_.take(number<std::uint64_t>()))); }
  bool flag() {
    const auto value = number<std::uint8_t>();
    if (value > 1) reader_.fail("expected 0 or 1");
    return value == 1;
  }
  void end() {
    if (reader_.remaining() != 0) reader_.fail("expected the end of the message");
  }
  [[noreturn]] void fail(const std::string& message) { reader_.fail(message); }

 private:
  ByteReader reader_;
};

}  // namespace torchkeep::detail
