// SPDX-License-Identifier: BSD-3-Clause
// Columns of numbers as one-dimensional tensors in a dict, and back. Unsigned numbers keep their bits: PyTorch's signed
// dtypes are those that every version of it knows.
#pragma once

#include <concepts>
#include <fmt/format.h>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include <torchkeep/format/chunks.h>
#include <torchkeep/format/rank_file.h>
#include <torchkeep/state/value.h>

namespace torchkeep::dcp {

/// Memory of a table that somebody keeps alive.
class ColumnStorage final : public Storage {
 public:
  ColumnStorage(Bytes bytes, std::shared_ptr<const void> owner) : bytes_(bytes), owner_(std::move(owner)) {}
  std::uint64_t nbytes() const noexcept override { return bytes_.size(); }
  void read(std::uint64_t offset, MutableBytes out) const override;
  const std::byte* data() const noexcept override { return bytes_.data(); }
  bool is_private() const noexcept override { return true; }

 private:
  Bytes bytes_;
  std::shared_ptr<const void> owner_;
};

/// A tensor of int32 or int64 over the numbers, which `owner` keeps alive.
template <std::integral T>
Value to_column(const std::vector<T>& numbers, const std::shared_ptr<const void>& owner) {
  static_assert(sizeof(T) == 4 || sizeof(T) == 8);
  Tensor tensor;
  tensor.dtype = sizeof(T) == 4 ? DType::int32 : DType::int64;
  tensor.sizes = {static_cast<std::int64_t>(numbers.size())};
  tensor.strides = {1};
  tensor.storage = std::make_shared<ColumnStorage>(std::as_bytes(std::span(numbers)), owner);
  return Value(tensor);
}

/// The value under a key of a table. Throws Error (corrupt) when there is none.
Value field(const Value& table, std::string_view key);
std::int64_t integer_field(const Value& table, std::string_view key);
/// Throws Error (corrupt) for a number that is negative or above `most`.
std::uint64_t count_field(const Value& table, std::string_view key, std::uint64_t most = ~std::uint64_t{0} >> 1);
std::string text_field(const Value& table, std::string_view key);

/// The bytes of a column of this dtype. Throws Error (corrupt) for anything else.
std::uint64_t check_column(const Value& column, std::string_view key, DType dtype);

/// The numbers of a column.
template <std::integral T>
std::vector<T> column_field(const Value& table, std::string_view key) {
  const Value column = field(table, key);
  std::vector<T> numbers(check_column(column, key, sizeof(T) == 4 ? DType::int32 : DType::int64) / sizeof(T));
  if (!numbers.empty()) column.as_tensor().storage->read(0, std::as_writable_bytes(std::span(numbers)));
  return numbers;
}

Value to_table(const NameTable& names);
NameTable names_from(const Value& table, std::string_view key);
Value to_table(const TensorTable& tensors, const std::shared_ptr<const void>& owner);
TensorTable tensors_from(const Value& table);
Value to_table(const ChunkTable& chunks, const std::shared_ptr<const void>& owner);
ChunkTable chunks_from(const Value& table, const TensorTable& tensors);
Value to_table(const ValueTable& values, const std::shared_ptr<const void>& owner);
ValueTable values_from(const Value& table);

/// Throws Error (corrupt) unless each row has a tensor of the table, `boxes` the numbers of all their boxes, and each
/// box lies inside its tensor.
void check_rows(const TensorTable& tensors, const std::vector<std::uint32_t>& tensor,
                const std::vector<std::int64_t>& boxes);

}  // namespace torchkeep::dcp
