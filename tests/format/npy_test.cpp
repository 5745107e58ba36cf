// SPDX-License-Identifier: BSD-3-Clause
// The bytes of a .npy file. (Read back by NumPy: tests/cli.)
#include <gtest/gtest.h>

#include <torchkeep/format/npy.h>

#include "support/expect_error.h"

namespace torchkeep {
namespace {

std::string bytes_of(const Plan& plan) {
  std::string bytes = plan.literals;
  for (const StoragePtr& payload : plan.payloads) {
    std::string part(payload->nbytes(), '\0');
    payload->read(0, std::as_writable_bytes(std::span(part)));
    bytes += part;
  }
  EXPECT_EQ(bytes.size(), plan.file_size);
  return bytes;
}

TEST(Npy, IsMagicHeaderAndRowMajorElements) {
  Tensor tensor = Tensor::of<std::uint8_t>({2, 2}, {1, 2, 3, 4});
  tensor.strides = {1, 2};
  const std::string file = bytes_of(plan_npy(tensor));
  ASSERT_EQ(file.size(), 132u);
  EXPECT_EQ(file.substr(0, 10), std::string("\x93NUMPY\x01\x00\x76\x00", 10));
  EXPECT_EQ(file.substr(10, 60), "{'descr': '|u1', 'fortran_order': False, 'shape': (2, 2), } ");
  EXPECT_EQ(file[127], '\n');
  EXPECT_EQ(file.substr(128), "\x01\x03\x02\x04");
}

TEST(Npy, SpellsShapesAsPythonDoes) {
  EXPECT_NE(plan_npy(Tensor::of<float>({}, {1})).literals.find("'shape': (), "), std::string::npos);
  EXPECT_NE(plan_npy(Tensor::of<float>({1}, {1})).literals.find("'shape': (1,), "), std::string::npos);
  const Plan empty = plan_npy(Tensor::of<float>({0, 3}, std::initializer_list<float>{}));
  EXPECT_NE(empty.literals.find("'descr': '<f4', 'fortran_order': False, 'shape': (0, 3), "), std::string::npos);
  EXPECT_EQ(empty.file_size, 128u);
}

TEST(Npy, WidensWhatNumpyLacksOrKeepsItsBits) {
  const std::uint16_t one = 0x3f80;
  const Tensor brain = Tensor::from_bytes(DType::bfloat16, {1}, std::as_bytes(std::span(&one, 1)));
  EXPECT_EQ(bytes_of(plan_npy(brain)).substr(128), std::string("\x00\x00\x80\x3f", 4));
  EXPECT_EQ(bytes_of(plan_npy(brain, {.raw_bits = true})).substr(128), "\x80\x3f");
  EXPECT_EQ(npy_dtype(DType::bfloat16), DType::float32);
  EXPECT_EQ(npy_dtype(DType::bfloat16, {.raw_bits = true}), DType::uint16);
  EXPECT_EQ(npy_dtype(DType::complex32), DType::complex64);
  EXPECT_EQ(npy_dtype(DType::qint8), DType::int8);
  EXPECT_EQ(npy_dtype(DType::quint4x2), DType::uint8);
  EXPECT_EQ(npy_dtype(DType::float16, {.raw_bits = true}), DType::float16);
  for (const DTypeInfo& row : all_dtypes()) {
    const Tensor tensor = Tensor::from_bytes(row.dtype, {1}, as_bytes(std::string(row.itemsize, '\0')));
    EXPECT_NO_THROW(plan_npy(tensor)) << row.name;
  }
}

TEST(Npy, RefusesALazyConjugate) {
  Tensor tensor = Tensor::of<std::complex<float>>({1}, {{1, 2}});
  tensor.is_conj = true;
  EXPECT_ERROR(plan_npy(tensor), Code::unsupported, "resolve_conj");
}

}  // namespace
}  // namespace torchkeep
