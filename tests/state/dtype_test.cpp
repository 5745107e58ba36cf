// SPDX-License-Identifier: BSD-3-Clause
// The dtype table. That it agrees with PyTorch's own is proved by the Python tests of the .pt format.
#include <gtest/gtest.h>

#include <torchkeep/state/dtype.h>

namespace torchkeep {
namespace {

TEST(DType, EveryRowIsFoundByItsName) {
  for (const DTypeInfo& row : all_dtypes()) EXPECT_EQ(dtype_from_name(row.name), row.dtype) << row.name;
}

TEST(DType, EveryStorageClassBelongsToOneDType) {
  for (const DTypeInfo& row : all_dtypes()) {
    if (!row.storage_class.empty()) {
      EXPECT_EQ(dtype_from_storage_class(row.storage_class), row.dtype) << row.name;
    }
  }
}

TEST(DType, UnknownNamesAreNotFound) {
  EXPECT_FALSE(dtype_from_name("float31"));
  EXPECT_FALSE(dtype_from_name(""));
  EXPECT_FALSE(dtype_from_storage_class(""));
  EXPECT_FALSE(dtype_from_storage_class("UntypedStorage"));
}

TEST(DType, ComplexElementsSwapByComponent) {
  EXPECT_EQ(info(DType::complex128).component_size, 8);
  EXPECT_EQ(info(DType::complex32).component_size, 2);
  EXPECT_EQ(info(DType::bfloat16).component_size, 2);
}

}  // namespace
}  // namespace torchkeep
