// SPDX-License-Identifier: BSD-3-Clause
// The tensor leaf: views, bounds, and elements in row-major order.
#include <gtest/gtest.h>
#include <limits>

#include <torchkeep/base/error.h>
#include <torchkeep/state/tensor.h>

namespace torchkeep {
namespace {

Tensor view(const Tensor& base, std::vector<std::int64_t> sizes, std::vector<std::int64_t> strides,
            std::int64_t offset) {
  Tensor tensor = base;
  tensor.sizes = std::move(sizes);
  tensor.strides = std::move(strides);
  tensor.storage_offset = offset;
  return tensor;
}

TEST(Tensor, ReadsAViewInRowMajorOrder) {
  const Tensor base = Tensor::of<float>({2, 3}, {0, 1, 2, 3, 4, 5});
  EXPECT_EQ(view(base, {3, 2}, {1, 3}, 0).to_vector<float>(), (std::vector<float>{0, 3, 1, 4, 2, 5}));
  EXPECT_EQ(view(base, {2}, {3}, 1).to_vector<float>(), (std::vector<float>{1, 4}));
  EXPECT_EQ(view(base, {2, 2}, {0, 1}, 4).to_vector<float>(), (std::vector<float>{4, 5, 4, 5}));
  EXPECT_EQ(view(base, {}, {}, 5).to_vector<float>(), (std::vector<float>{5}));
  EXPECT_EQ(view(base, {2, 1, 2}, {2, 7, 1}, 1).to_vector<float>(), (std::vector<float>{1, 2, 3, 4}));
}

TEST(Tensor, AnEmptyTensorHasNoElementsWhateverItsStrides) {
  const Tensor tensor = Tensor::of<double>({2, 0, 3}, {});
  EXPECT_EQ(tensor.numel(), 0);
  EXPECT_EQ(tensor.strides, (std::vector<std::int64_t>{3, 3, 1}));
  EXPECT_TRUE(tensor.to_vector<double>().empty());
  EXPECT_TRUE(view(tensor, {0}, {1 << 30}, 5).to_vector<double>().empty());
}

TEST(Tensor, AnEmptyTensorIsContiguousWhateverItsStrides) {
  const Tensor empty = Tensor::of<float>({0}, {});
  EXPECT_TRUE(view(empty, {0, 3, 2}, {1, 7, 1}, 0).is_contiguous());
  EXPECT_TRUE(view(empty, {0, std::int64_t{1} << 62, 4}, {0, 4, 1}, 0).is_contiguous());
}

TEST(Tensor, TheStrideOfADimensionOfSizeOneIsNeverUsed) {
  constexpr auto kHuge = std::numeric_limits<std::int64_t>::max();
  const Tensor base = Tensor::of<float>({4}, {0, 1, 2, 3});
  EXPECT_EQ(view(base, {1, 2}, {kHuge, 2}, 1).to_vector<float>(), (std::vector<float>{1, 3}));
  EXPECT_EQ(view(base, {2, 1}, {2, kHuge}, 1).to_vector<float>(), (std::vector<float>{1, 3}));
}

TEST(Tensor, ReadsOnlyAsItsOwnDType) {
  EXPECT_THROW(Tensor::of<float>({1}, {1.0f}).to_vector<double>(), Error);
  EXPECT_EQ(Tensor::of<bool>({2}, {true, false}).to_vector<bool>(), (std::vector<bool>{true, false}));
}

TEST(Tensor, RefusesAViewThatLeavesItsStorage) {
  const Tensor base = Tensor::of<float>({6}, {0, 1, 2, 3, 4, 5});
  constexpr auto kHuge = std::numeric_limits<std::int64_t>::max();
  EXPECT_NO_THROW(view(base, {2, 3}, {3, 1}, 0).validate());
  EXPECT_THROW(view(base, {7}, {1}, 0).validate(), Error);
  EXPECT_THROW(view(base, {6}, {1}, 1).validate(), Error);
  EXPECT_THROW(view(base, {2}, {6}, 0).validate(), Error);
  EXPECT_THROW(view(base, {2}, {-1}, 1).validate(), Error);
  EXPECT_THROW(view(base, {-1}, {1}, 0).validate(), Error);
  EXPECT_THROW(view(base, {1}, {1}, -1).validate(), Error);
  EXPECT_THROW(view(base, {2}, {1, 1}, 0).validate(), Error);
  EXPECT_THROW(view(base, {kHuge, kHuge}, {0, 0}, 0).validate(), Error);
  EXPECT_THROW(view(base, {kHuge}, {kHuge}, 0).validate(), Error);
  EXPECT_THROW(view(base, {1}, {1}, kHuge).validate(), Error);
  EXPECT_NO_THROW(view(base, {kHuge, kHuge, 0}, {1, 1, 1}, 0).validate());
}

TEST(Tensor, RefusesBytesThatDoNotFillTheShape) {
  EXPECT_THROW(Tensor::from_bytes(DType::float32, {3}, as_bytes("12345678")), Error);
  EXPECT_THROW(Tensor::from_bytes(DType::float32, {-1}, {}), Error);
  EXPECT_THROW(Tensor::from_bytes(DType::float64, {std::int64_t{1} << 61, 8}, {}), Error);
}

TEST(OwnedStorage, IsAlignedAndRefusesReadsPastItsEnd) {
  const OwnedStorage storage(as_bytes("abcdef"));
  EXPECT_EQ(reinterpret_cast<std::uintptr_t>(storage.data()) % 64, 0u);
  std::string out(3, ' ');
  storage.read(3, std::as_writable_bytes(std::span(out)));
  EXPECT_EQ(out, "def");
  EXPECT_THROW(storage.read(4, std::as_writable_bytes(std::span(out))), Error);
  EXPECT_THROW(storage.read(~0ull, std::as_writable_bytes(std::span(out))), Error);
}

TEST(OwnedStorage, RefusesAnAbsurdSize) {
  EXPECT_THROW(OwnedStorage(~std::uint64_t{0}), Error);
}

}  // namespace
}  // namespace torchkeep
