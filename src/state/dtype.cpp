// SPDX-License-Identifier: BSD-3-Clause
// The table of dtypes. Storage classes: torch/storage.py of PyTorch 2.13 (_dtype_to_storage_type_map).
#include <array>

#include <torchkeep/state/dtype.h>

namespace torchkeep {
namespace {

using enum DType;
using C = DTypeClass;

constexpr auto kTable = std::to_array<DTypeInfo>({
    {float64, "float64", 8, 8, C::floating, "DoubleStorage"},
    {float32, "float32", 4, 4, C::floating, "FloatStorage"},
    {float16, "float16", 2, 2, C::floating, "HalfStorage"},
    {bfloat16, "bfloat16", 2, 2, C::floating, "BFloat16Storage"},
    {float8_e5m2, "float8_e5m2", 1, 1, C::floating, ""},
    {float8_e4m3fn, "float8_e4m3fn", 1, 1, C::floating, ""},
    {float8_e5m2fnuz, "float8_e5m2fnuz", 1, 1, C::floating, ""},
    {float8_e4m3fnuz, "float8_e4m3fnuz", 1, 1, C::floating, ""},
    {float8_e8m0fnu, "float8_e8m0fnu", 1, 1, C::floating, ""},
    {float4_e2m1fn_x2, "float4_e2m1fn_x2", 1, 1, C::floating, ""},
    {int64, "int64", 8, 8, C::integer, "LongStorage"},
    {int32, "int32", 4, 4, C::integer, "IntStorage"},
    {int16, "int16", 2, 2, C::integer, "ShortStorage"},
    {int8, "int8", 1, 1, C::integer, "CharStorage"},
    {uint8, "uint8", 1, 1, C::integer, "ByteStorage"},
    {uint16, "uint16", 2, 2, C::integer, ""},
    {uint32, "uint32", 4, 4, C::integer, ""},
    {uint64, "uint64", 8, 8, C::integer, ""},
    {DType::boolean, "bool", 1, 1, C::boolean, "BoolStorage"},
    {complex128, "complex128", 16, 8, C::complex, "ComplexDoubleStorage"},
    {complex64, "complex64", 8, 4, C::complex, "ComplexFloatStorage"},
    {complex32, "complex32", 4, 2, C::complex, ""},
    {qint8, "qint8", 1, 1, C::quantized, "QInt8Storage"},
    {quint8, "quint8", 1, 1, C::quantized, "QUInt8Storage"},
    {qint32, "qint32", 4, 4, C::quantized, "QInt32Storage"},
    {quint4x2, "quint4x2", 1, 1, C::quantized, "QUInt4x2Storage"},
    {quint2x4, "quint2x4", 1, 1, C::quantized, "QUInt2x4Storage"},
    {bits8, "bits8", 1, 1, C::bits, ""},
    {bits1x8, "bits1x8", 1, 1, C::bits, ""},
    {bits2x4, "bits2x4", 1, 1, C::bits, ""},
    {bits4x2, "bits4x2", 1, 1, C::bits, ""},
    {bits16, "bits16", 2, 2, C::bits, ""},
    {int1, "int1", 1, 1, C::bits, ""},
    {int2, "int2", 1, 1, C::bits, ""},
    {int3, "int3", 1, 1, C::bits, ""},
    {int4, "int4", 1, 1, C::bits, ""},
    {int5, "int5", 1, 1, C::bits, ""},
    {int6, "int6", 1, 1, C::bits, ""},
    {int7, "int7", 1, 1, C::bits, ""},
    {uint1, "uint1", 1, 1, C::bits, ""},
    {uint2, "uint2", 1, 1, C::bits, ""},
    {uint3, "uint3", 1, 1, C::bits, ""},
    {uint4, "uint4", 1, 1, C::bits, ""},
    {uint5, "uint5", 1, 1, C::bits, ""},
    {uint6, "uint6", 1, 1, C::bits, ""},
    {uint7, "uint7", 1, 1, C::bits, ""},
});

constexpr bool rows_stand_in_order() {
  for (std::size_t i = 0; i < kTable.size(); ++i) {
    if (static_cast<std::size_t>(kTable[i].dtype) != i) return false;
  }
  return true;
}
static_assert(rows_stand_in_order());

}  // namespace

const DTypeInfo& info(DType dtype) noexcept {
  return kTable[static_cast<std::size_t>(dtype)];
}

std::span<const DTypeInfo> all_dtypes() noexcept {
  return kTable;
}

std::optional<DType> dtype_from_name(std::string_view name) noexcept {
  if (name == "boolean") return DType::boolean;
  for (const DTypeInfo& row : kTable) {
    if (row.name == name) return row.dtype;
  }
  return std::nullopt;
}

std::optional<DType> dtype_from_storage_class(std::string_view name) noexcept {
  if (name.empty()) return std::nullopt;
  for (const DTypeInfo& row : kTable) {
    if (row.storage_class == name) return row.dtype;
  }
  return std::nullopt;
}

}  // namespace torchkeep
