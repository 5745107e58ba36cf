// SPDX-License-Identifier: BSD-3-Clause
// Writes single pickle instructions of protocol 2, and the memo that lets repeated things be named again.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include <torchkeep/state/dtype.h>
#include <torchkeep/state/integer.h>

#include "memo.h"
#include "opcodes.h"

namespace torchkeep::pickle {

/// The globals the writer uses, beside dtypes and storage classes. The order is that of kNames in emitter.cpp.
enum class Name : std::uint8_t {
  ordered_dict,
  counter,
  set,
  complex,
  bytearray,
  encode,
  size,
  device,
  get_layout,
  untyped_storage,
  tensor,
  rebuild_tensor_v2,
  rebuild_tensor_v3,
  rebuild_parameter,
  rebuild_parameter_with_state,
  rebuild_qtensor,
  rebuild_sparse_tensor,
  rebuild_nested_tensor,
  rebuild_meta_tensor,
  rebuild_from_type,
  per_tensor_affine,
  per_tensor_symmetric,
  per_channel_affine,
  per_channel_symmetric,
  per_channel_affine_float_qparams,
  dcp_metadata,
  dcp_tensor_metadata,
  dcp_properties,
  dcp_memory_format,
  dcp_chunk,
  dcp_bytes_metadata,
  dcp_index,
  dcp_storage_info,
  dcp_storage_meta,
  count,
};

class Emitter {
 public:
  Emitter() { op(Op::proto), raw(2); }
  Emitter(const Emitter&) = delete;
  Emitter& operator=(const Emitter&) = delete;

  void op(Op op) { out_ += static_cast<char>(op); }
  void boolean(bool value) { op(value ? Op::new_true : Op::new_false); }
  void integer(std::int64_t value);
  /// False when the number is longer than LONG1 (255 bytes), the only long PyTorch's safe loader reads.
  bool integer(const Integer& value);
  void real(double value);
  static constexpr std::size_t kMaxSharedText = 256;  ///< bytes
  /// A text, or, up to kMaxSharedText, a reference to the same text written before. `text` must outlive the emitter.
  void text(std::string_view text);
  /// "storage" and "cpu", which every tensor needs, without a look into the memo of texts.
  void storage_word() { fixed_text(storage_word_, "storage"); }
  void location(const std::string& name);
  /// A text that will not be written again.
  void text_once(std::string_view text);
  /// A tuple of ints; sizes and strides.
  template <class Range>
  void integers(const Range& values) {
    if (values.size() > 3) op(Op::mark);
    for (const std::int64_t value : values) integer(value);
    tuple(values.size());
  }
  /// The instruction that makes a tuple of the last `count` values; more than 3 of them must follow a MARK.
  void tuple(std::size_t count);
  void global(Name name) { global(kinds_[static_cast<std::size_t>(name)], text_of(name)); }
  void global(DType dtype);
  void storage_class(DType dtype);
  /// The global called by PyTorch's name of a quantization scheme; false when there is none.
  bool scheme(std::string_view name);
  /// OrderedDict(): its global, no arguments, REDUCE.
  void empty_ordered_dict();

  /// Remembers the value on top of the stack; its number in the memo.
  std::uint32_t put();
  void get(std::uint32_t number);

  /// Hands the bytes that wait to `write` and forgets them, for those who write a long pickle piece by piece.
  template <class Write>
  void flush(const Write& write) {
    write(std::as_bytes(std::span(out_)));
    out_.clear();
  }
  /// Bytes that wait.
  std::size_t pending() const noexcept { return out_.size(); }

  std::string finish() && {
    op(Op::stop);
    return std::move(out_);
  }

 private:
  static std::string_view text_of(Name name) noexcept;
  void global(std::uint32_t& memo, std::string_view module, std::string_view name, std::string_view suffix = {});
  void global(std::uint32_t& memo, std::string_view text) { global(memo, text, {}); }
  void fixed_text(std::uint32_t& memo, std::string_view text);
  void raw(std::uint8_t byte) { out_ += static_cast<char>(byte); }
  template <class T>
  void little_endian(T value);

  std::string out_;
  std::uint32_t memo_size_ = 0;
  TextMemo texts_;
  std::uint32_t storage_word_ = 0;
  std::uint32_t cpu_word_ = 0;
  // 1 + number in the memo, 0 when not yet written
  std::array<std::uint32_t, static_cast<std::size_t>(Name::count)> kinds_{};
  std::array<std::uint32_t, 64> dtypes_{};
  std::array<std::uint32_t, 64> storages_{};
};

}  // namespace torchkeep::pickle
