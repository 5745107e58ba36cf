// SPDX-License-Identifier: BSD-3-Clause
// Every element type PyTorch 2.13 can put into a tensor, with what the file formats need to know about it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>

namespace torchkeep {

/// Element type of a tensor; the names are PyTorch's ("boolean" is torch.bool).
enum class DType : std::uint8_t {
  float64,
  float32,
  float16,
  bfloat16,
  float8_e5m2,
  float8_e4m3fn,
  float8_e5m2fnuz,
  float8_e4m3fnuz,
  float8_e8m0fnu,
  float4_e2m1fn_x2,
  int64,
  int32,
  int16,
  int8,
  uint8,
  uint16,
  uint32,
  uint64,
  boolean,
  complex128,
  complex64,
  complex32,
  qint8,
  quint8,
  qint32,
  quint4x2,
  quint2x4,
  bits8,
  bits1x8,
  bits2x4,
  bits4x2,
  bits16,
  int1,
  int2,
  int3,
  int4,
  int5,
  int6,
  int7,
  uint1,
  uint2,
  uint3,
  uint4,
  uint5,
  uint6,
  uint7,
};

/// What an element of a dtype stands for.
enum class DTypeClass : std::uint8_t { floating, integer, boolean, complex, quantized, bits };

/// One row per dtype.
struct DTypeInfo {
  DType dtype;
  std::string_view name;        ///< as in Python, without "torch.": "float32", "bool"
  std::uint8_t itemsize;        ///< bytes per element
  std::uint8_t component_size;  ///< bytes that swap as one unit: itemsize, or half of it for complex
  DTypeClass kind;
  /// Class in a torch.save file ("FloatStorage"); empty: written as UntypedStorage with an explicit dtype
  /// (_rebuild_tensor_v3), as PyTorch does for every dtype added since 2.1.
  std::string_view storage_class;
};

/// The row of a dtype.
const DTypeInfo& info(DType dtype) noexcept;
/// All rows, in the order of the enumeration.
std::span<const DTypeInfo> all_dtypes() noexcept;
/// The dtype called `name` ("float32"; "bool" and "boolean" are the same), or nothing.
std::optional<DType> dtype_from_name(std::string_view name) noexcept;
/// The dtype whose legacy storage class is `name` ("FloatStorage"), or nothing.
std::optional<DType> dtype_from_storage_class(std::string_view name) noexcept;

inline std::string_view to_string(DType dtype) noexcept {
  return info(dtype).name;
}
inline std::size_t itemsize(DType dtype) noexcept {
  return info(dtype).itemsize;
}

}  // namespace torchkeep
