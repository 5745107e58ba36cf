// SPDX-License-Identifier: BSD-3-Clause
// All that depends on LibTorch's version. Written for and tested with 2.13.
#pragma once

#include <memory>
#include <type_traits>
#include <utility>

#include <ATen/core/Tensor.h>
#include <torch/optim/optimizer.h>
#include <torch/version.h>

#include <torchkeep/state/dtype.h>

#if TORCH_VERSION_MAJOR < 2
#error "torchkeep needs LibTorch 2.x"
#endif

namespace torchkeep::compat {

/// A dtype in both languages.
struct DTypeRow {
  DType ours;
  c10::ScalarType theirs;
};

/// Every dtype of LibTorch 2.13 that a tensor can have, in the order of our enumeration.
inline constexpr DTypeRow kDTypes[] = {
    {DType::float64, c10::ScalarType::Double},
    {DType::float32, c10::ScalarType::Float},
    {DType::float16, c10::ScalarType::Half},
    {DType::bfloat16, c10::ScalarType::BFloat16},
    {DType::float8_e5m2, c10::ScalarType::Float8_e5m2},
    {DType::float8_e4m3fn, c10::ScalarType::Float8_e4m3fn},
    {DType::float8_e5m2fnuz, c10::ScalarType::Float8_e5m2fnuz},
    {DType::float8_e4m3fnuz, c10::ScalarType::Float8_e4m3fnuz},
    {DType::float8_e8m0fnu, c10::ScalarType::Float8_e8m0fnu},
    {DType::float4_e2m1fn_x2, c10::ScalarType::Float4_e2m1fn_x2},
    {DType::int64, c10::ScalarType::Long},
    {DType::int32, c10::ScalarType::Int},
    {DType::int16, c10::ScalarType::Short},
    {DType::int8, c10::ScalarType::Char},
    {DType::uint8, c10::ScalarType::Byte},
    {DType::uint16, c10::ScalarType::UInt16},
    {DType::uint32, c10::ScalarType::UInt32},
    {DType::uint64, c10::ScalarType::UInt64},
    {DType::boolean, c10::ScalarType::Bool},
    {DType::complex128, c10::ScalarType::ComplexDouble},
    {DType::complex64, c10::ScalarType::ComplexFloat},
    {DType::complex32, c10::ScalarType::ComplexHalf},
    {DType::qint8, c10::ScalarType::QInt8},
    {DType::quint8, c10::ScalarType::QUInt8},
    {DType::qint32, c10::ScalarType::QInt32},
    {DType::quint4x2, c10::ScalarType::QUInt4x2},
    {DType::quint2x4, c10::ScalarType::QUInt2x4},
    {DType::bits8, c10::ScalarType::Bits8},
    {DType::bits1x8, c10::ScalarType::Bits1x8},
    {DType::bits2x4, c10::ScalarType::Bits2x4},
    {DType::bits4x2, c10::ScalarType::Bits4x2},
    {DType::bits16, c10::ScalarType::Bits16},
    {DType::int1, c10::ScalarType::Int1},
    {DType::int2, c10::ScalarType::Int2},
    {DType::int3, c10::ScalarType::Int3},
    {DType::int4, c10::ScalarType::Int4},
    {DType::int5, c10::ScalarType::Int5},
    {DType::int6, c10::ScalarType::Int6},
    {DType::int7, c10::ScalarType::Int7},
    {DType::uint1, c10::ScalarType::UInt1},
    {DType::uint2, c10::ScalarType::UInt2},
    {DType::uint3, c10::ScalarType::UInt3},
    {DType::uint4, c10::ScalarType::UInt4},
    {DType::uint5, c10::ScalarType::UInt5},
    {DType::uint6, c10::ScalarType::UInt6},
    {DType::uint7, c10::ScalarType::UInt7},
};

/// Optimizer::state() and its key for a parameter (a text in LibTorch 1.x).
using StateMap = std::remove_cvref_t<decltype(std::declval<torch::optim::Optimizer&>().state())>;
using StateKey = StateMap::key_type;

inline StateKey state_key(const at::Tensor& parameter) {
  return parameter.unsafeGetTensorImpl();
}

/// The pointer behind Optimizer::defaults(), which LibTorch lets nobody exchange.
inline std::unique_ptr<torch::optim::OptimizerOptions>& defaults_pointer(torch::optim::Optimizer& optimizer) {
  struct Access : torch::optim::Optimizer {
    static auto member() { return &Access::defaults_; }
  };
  return optimizer.*Access::member();
}

}  // namespace torchkeep::compat
