// SPDX-License-Identifier: BSD-3-Clause
// The tensor leaf: views, bounds, and elements in row-major order.
#include <gtest/gtest.h>
#include <limits>

#include <torchkeep/base/error.h>
#include <torchkeep/state/tensor.h>

#include "support/expect_error.h"

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

TEST(Tensor, IsHeldToItsBytesWhateverDeviceItsStorageNames) {
  for (const char* device : {"cpu", "meta", "cuda:0", "nowhere"}) {
    Tensor tensor;
    tensor.sizes = {64, 64};
    tensor.strides = {64, 1};
    tensor.storage = std::make_shared<OwnedStorage>(0, device);
    EXPECT_FALSE(tensor.is_meta()) << device;
    EXPECT_ERROR(tensor.validate(), Code::corrupt, "its storage has 0");
    EXPECT_ERROR(tensor.memory(), Code::corrupt, "its storage has 0");
    EXPECT_ERROR(tensor.contiguous_bytes(), Code::corrupt, "its storage has 0");
  }
}

TEST(Tensor, OfTheDeviceMetaHasAShapeAndNoValues) {
  Tensor tensor;
  tensor.sizes = {1 << 20, 1 << 20};
  tensor.strides = {1 << 20, 1};
  tensor.storage = std::make_shared<MetaStorage>();
  EXPECT_NO_THROW(tensor.validate());
  EXPECT_TRUE(tensor.is_meta());
  EXPECT_ERROR(tensor.extent(), Code::unsupported, "a meta tensor has no values");
  EXPECT_ERROR(tensor.writable_memory(), Code::unsupported, "a meta tensor has no values");
  EXPECT_ERROR(tensor.contiguous_bytes(), Code::unsupported, "a meta tensor has no values");
  EXPECT_FALSE(materialize(*tensor.storage)->has_bytes());
  tensor.strides = {std::numeric_limits<std::int64_t>::max(), 1};
  EXPECT_ERROR(tensor.validate(), Code::corrupt, "overflow 64 bits");
}

TEST(Tensor, MemoryIsWhatItsElementsSpanAndNoByteMore) {
  std::vector<float> numbers(12);
  const auto bytes = std::as_writable_bytes(std::span(numbers));
  Tensor tensor;
  tensor.storage = std::make_shared<BorrowedStorage>(bytes);
  const auto expect_span = [&](const Tensor& view, std::size_t begin, std::size_t size) {
    EXPECT_EQ(view.extent().begin, begin);
    EXPECT_EQ(view.extent().size, size);
    EXPECT_EQ(view.memory().data(), bytes.data() + begin);
    EXPECT_EQ(view.memory().size(), size);
    EXPECT_EQ(view.writable_memory().data(), bytes.data() + begin);
  };
  expect_span(view(tensor, {3, 2}, {4, 1}, 1), 4, 40);
  expect_span(view(tensor, {5, 5}, {0, 0}, 11), 44, 4);
  expect_span(view(tensor, {2}, {11}, 0), 0, 48);
  EXPECT_EQ(view(tensor, {0, 7}, {1, 1}, 3).memory().data(), nullptr);
  EXPECT_ERROR(view(tensor, {2}, {11}, 1).memory(), Code::corrupt, "needs 13 elements");
  EXPECT_ERROR(view(tensor, {1}, {1}, std::numeric_limits<std::int64_t>::max()).memory(), Code::corrupt, "");
}

TEST(Tensor, IsDenseWhenEveryElementHasItsOwnPlaceWithoutGaps) {
  const Tensor base = Tensor::of<float>({6}, {0, 1, 2, 3, 4, 5});
  EXPECT_TRUE(view(base, {2, 3}, {1, 2}, 0).is_dense());
  EXPECT_TRUE(view(base, {1, 3}, {9, 1}, 3).is_dense());
  EXPECT_FALSE(view(base, {2, 2}, {3, 0}, 0).is_dense());  // four elements on four places, two of them twice
  EXPECT_FALSE(view(base, {2, 2}, {1, 1}, 0).is_dense());
  EXPECT_FALSE(view(base, {2}, {2}, 0).is_dense());
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
