// SPDX-License-Identifier: BSD-3-Clause
// Conversions round to the nearest value, ties to even. (Every bit pattern against PyTorch: tests/cli.)
#include <cmath>
#include <cstring>
#include <gtest/gtest.h>
#include <limits>

#include <torchkeep/state/cast.h>

#include "support/expect_error.h"

namespace torchkeep {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

template <class Bits>
std::vector<Bits> bits_of(const Tensor& tensor) {
  const std::string bytes = tensor.contiguous_bytes();
  std::vector<Bits> bits(bytes.size() / sizeof(Bits));
  std::memcpy(bits.data(), bytes.data(), bytes.size());
  return bits;
}

TEST(Cast, RoundsToNearestTiesToEven) {
  const Tensor tensor = Tensor::of<float>({6}, {1.0f, 1.00390625f, 1.01171875f, -0.0f, 3.4e38f, kInfinity});
  EXPECT_EQ(bits_of<std::uint16_t>(cast(tensor, DType::bfloat16)),
            (std::vector<std::uint16_t>{0x3f80, 0x3f80, 0x3f82, 0x8000, 0x7f80, 0x7f80}));
  const Tensor half = Tensor::of<float>({5}, {65519.0f, 65520.0f, 0x1p-24f, 0x1p-25f, 0x1.8p-24f});
  EXPECT_EQ(bits_of<std::uint16_t>(cast(half, DType::float16)),
            (std::vector<std::uint16_t>{0x7bff, 0x7c00, 0x0001, 0x0000, 0x0002}));
  const Tensor eight = Tensor::of<float>({4}, {500.0f, -0x1p-9f, 0x1p-10f, 448.0f});
  EXPECT_EQ(bits_of<std::uint8_t>(cast(eight, DType::float8_e4m3fn)), (std::vector<std::uint8_t>{0x7e, 0x81, 0, 0x7e}));
  EXPECT_EQ(bits_of<std::uint8_t>(cast(eight, DType::float8_e5m2)),
            (std::vector<std::uint8_t>{0x60, 0x98, 0x14, 0x5f}));
}

TEST(Cast, KeepsNan) {
  const Tensor tensor = Tensor::of<float>({1}, {std::nanf("")});
  for (const DType dtype :
       {DType::float16, DType::bfloat16, DType::float8_e4m3fn, DType::float8_e5m2, DType::float64}) {
    EXPECT_TRUE(std::isnan(cast(cast(tensor, dtype), DType::float32).to_vector<float>()[0])) << to_string(dtype);
  }
}

TEST(Cast, WidensExactlyAndKeepsShapeAndFlags) {
  Tensor tensor = Tensor::of<float>({2, 3}, {1, 2, 3, 4, 5, 6});
  tensor.sizes = {3, 2}, tensor.strides = {1, 3}, tensor.requires_grad = true;
  const Tensor wide = cast(tensor, DType::float64);
  EXPECT_EQ(wide.to_vector<double>(), (std::vector<double>{1, 4, 2, 5, 3, 6}));
  EXPECT_EQ(wide.sizes, tensor.sizes);
  EXPECT_TRUE(wide.is_contiguous());
  EXPECT_TRUE(wide.requires_grad);
  const Tensor z = Tensor::of<std::complex<float>>({1}, {{1, -2}});
  EXPECT_EQ(cast(z, DType::complex128).to_vector<std::complex<double>>()[0], std::complex<double>(1, -2));
}

TEST(Cast, ReadsAnyBytesOfTheResult) {
  std::vector<float> values(3000);
  for (std::size_t i = 0; i < values.size(); ++i) values[i] = static_cast<float>(i);
  const Tensor narrow = cast(Tensor::of<float>({3000}, values), DType::bfloat16);
  const std::string all = narrow.contiguous_bytes();
  for (const auto& [from, count] :
       {std::pair<std::size_t, std::size_t>{0, 6000}, {1, 5998}, {4095, 3}, {5999, 1}, {7, 0}}) {
    std::string out(count, '?');
    narrow.storage->read(from, std::as_writable_bytes(std::span(out)));
    EXPECT_EQ(out, all.substr(from, count));
  }
  std::string out(2, '?');
  EXPECT_ERROR(narrow.storage->read(5999, std::as_writable_bytes(std::span(out))), Code::invalid_argument,
               "6000 bytes");
}

TEST(Cast, RefusesWhatIsNoRounding) {
  EXPECT_TRUE(can_cast(DType::int64, DType::int64));
  for (const auto& [from, to] : {std::pair(DType::int64, DType::float32),
                                 {DType::float32, DType::int64},
                                 {DType::complex64, DType::float32},
                                 {DType::complex128, DType::complex64},
                                 {DType::float32, DType::float8_e8m0fnu},
                                 {DType::float4_e2m1fn_x2, DType::float32}}) {
    EXPECT_FALSE(can_cast(from, to)) << to_string(from) << " " << to_string(to);
  }
  EXPECT_ERROR(cast(Tensor::of<std::int64_t>({1}, {1}), DType::float32), Code::unsupported, "from int64 to float32");
}

}  // namespace
}  // namespace torchkeep
