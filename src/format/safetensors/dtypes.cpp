// SPDX-License-Identifier: BSD-3-Clause
// One row per dtype of the format, in the order in which the safetensors library sorts tensors (safetensors 0.8).
#include "dtypes.h"

#include <array>

namespace torchkeep::safetensors {
namespace {

constexpr auto kTypes = std::to_array<FileType>({
    {"U64", 64, DType::uint64, 21},
    {"I64", 64, DType::int64, 20},
    {"F64", 64, DType::float64, 19},
    {"C64", 64, DType::complex64, 18},
    {"F32", 32, DType::float32, 17},
    {"U32", 32, DType::uint32, 16},
    {"I32", 32, DType::int32, 15},
    {"BF16", 16, DType::bfloat16, 14},
    {"F16", 16, DType::float16, 13},
    {"U16", 16, DType::uint16, 12},
    {"I16", 16, DType::int16, 11},
    {"F8_E5M2FNUZ", 8, DType::float8_e5m2fnuz, 10},
    {"F8_E4M3FNUZ", 8, DType::float8_e4m3fnuz, 9},
    {"F8_E8M0", 8, DType::float8_e8m0fnu, 8},
    {"F8_E4M3", 8, DType::float8_e4m3fn, 7},
    {"F8_E5M2", 8, DType::float8_e5m2, 6},
    {"I8", 8, DType::int8, 5},
    {"U8", 8, DType::uint8, 4},
    {"F6_E3M2", 6, std::nullopt, 3},
    {"F6_E2M3", 6, std::nullopt, 2},
    {"F4", 4, DType::float4_e2m1fn_x2, 1},
    {"BOOL", 8, DType::boolean, 0},
});

}  // namespace

const FileType* find_type(std::string_view name) noexcept {
  for (const FileType& type : kTypes) {
    if (type.name == name) return &type;
  }
  return nullptr;
}

const FileType* find_type(DType dtype) noexcept {
  for (const FileType& type : kTypes) {
    if (type.dtype == dtype) return &type;
  }
  return nullptr;
}

}  // namespace torchkeep::safetensors
