// SPDX-License-Identifier: BSD-3-Clause
// Elements come in row-major order whatever the strides, in bounded reads, and never from outside the storage.
#include <algorithm>
#include <gtest/gtest.h>
#include <mutex>
#include <numeric>
#include <random>

#include <torchkeep/state/elements.h>

#include "support/expect_error.h"

namespace torchkeep {
namespace {

// A storage that can only be read, as a record of a file, and remembers how it was read.
class ReadOnlyStorage final : public Storage {
 public:
  explicit ReadOnlyStorage(StoragePtr inner) : inner_(std::move(inner)) {}
  std::uint64_t nbytes() const noexcept override { return inner_->nbytes(); }
  void read(std::uint64_t offset, MutableBytes out) const override {
    const std::lock_guard lock(mutex_);
    ++reads;
    bytes += out.size();
    largest = std::max(largest, out.size());
    inner_->read(offset, out);
  }
  mutable std::size_t reads = 0;
  mutable std::size_t bytes = 0;
  mutable std::size_t largest = 0;

 private:
  StoragePtr inner_;
  mutable std::mutex mutex_;
};

Tensor counting(std::vector<std::int64_t> sizes) {
  const std::int64_t count = std::accumulate(sizes.begin(), sizes.end(), std::int64_t{1}, std::multiplies<>());
  std::vector<std::int32_t> values(static_cast<std::size_t>(count));
  std::iota(values.begin(), values.end(), 0);
  return Tensor::of<std::int32_t>(std::move(sizes), values);
}

std::vector<std::int32_t> read_all(const Elements& elements, std::uint64_t block) {
  std::vector<std::int32_t> values(static_cast<std::size_t>(elements.count()));
  for (std::uint64_t first = 0; first < elements.count(); first += block) {
    const auto count = std::min<std::uint64_t>(block, elements.count() - first);
    elements.read(first, std::as_writable_bytes(std::span(values).subspan(first, count)));
  }
  return values;
}

Tensor on_file(Tensor tensor) {
  tensor.storage = std::make_shared<ReadOnlyStorage>(tensor.storage);
  return tensor;
}

TEST(Elements, ReadsAnyViewInAnyRangesAsAWholeCopyWould) {
  std::mt19937 random(1);
  const auto below = [&](std::int64_t limit) { return static_cast<std::int64_t>(random() % limit); };
  for (int round = 0; round < 300; ++round) {
    const Tensor tensor = counting({6, 5, 4, 3});
    std::vector<std::size_t> order = {0, 1, 2, 3};
    std::shuffle(order.begin(), order.end(), random);
    Tensor view = tensor;
    for (std::size_t d = 0; d < 4; ++d) {  // permute, narrow, step, expand
      view.sizes[d] = tensor.sizes[order[d]], view.strides[d] = tensor.strides[order[d]];
      const std::int64_t skipped = below(view.sizes[d]);
      view.storage_offset += skipped * view.strides[d];
      view.sizes[d] -= skipped;
      if (below(4) == 0) view.strides[d] *= 2, view.sizes[d] = (view.sizes[d] + 1) / 2;
      if (below(6) == 0) view.strides[d] = 0;
    }
    const std::vector<std::int32_t> expected = view.to_vector<std::int32_t>();
    const std::uint64_t block = static_cast<std::uint64_t>(1 + below(40));
    EXPECT_EQ(read_all(Elements(view), block), expected);
    EXPECT_EQ(read_all(Elements(on_file(view)), block), expected);
  }
}

TEST(Elements, OfATransposedMatrixInAFileCostFewReadsAndLittleMemory) {
  Tensor tensor = on_file(counting({3000, 1000}));
  std::swap(tensor.sizes[0], tensor.sizes[1]);
  std::swap(tensor.strides[0], tensor.strides[1]);
  const Elements elements(tensor);
  const auto values = read_all(elements, elements.block());
  for (std::int32_t row = 0; row < 1000; ++row) {
    for (std::int32_t column = 0; column < 3000; ++column) ASSERT_EQ(values[row * 3000 + column], column * 1000 + row);
  }
  const auto& storage = static_cast<const ReadOnlyStorage&>(*tensor.storage);
  EXPECT_LE(storage.reads, 100u);
  EXPECT_LE(storage.largest, std::size_t{1} << 20);
  EXPECT_LE(storage.bytes, 2 * storage.nbytes());
}

TEST(Elements, OfAColumnInAFileAreNotReadWithTheWholeMatrix) {
  Tensor tensor = on_file(counting({500, 20000}));
  tensor.sizes = {500}, tensor.strides = {20000}, tensor.storage_offset = 7;
  const auto values = read_all(Elements(tensor), 500);
  for (std::int32_t i = 0; i < 500; ++i) ASSERT_EQ(values[i], i * 20000 + 7);
  EXPECT_LE(static_cast<const ReadOnlyStorage&>(*tensor.storage).bytes, std::size_t{500 * 4096});
}

TEST(Elements, LieInPlaceOnlyInOrderAndInMemory) {
  Tensor tensor = counting({4, 5});
  EXPECT_EQ(Elements(tensor).in_place(), tensor.storage->data());
  tensor.sizes = {3, 5}, tensor.storage_offset = 5;
  EXPECT_EQ(Elements(tensor).in_place(), tensor.storage->data() + 20);
  EXPECT_EQ(Elements(on_file(tensor)).in_place(), nullptr);
  tensor.sizes = {5, 3}, tensor.strides = {1, 5};
  EXPECT_EQ(Elements(tensor).in_place(), nullptr);
}

TEST(Elements, OfEmptyAndScalarTensors) {
  EXPECT_EQ(Elements(counting({0, 3})).count(), 0u);
  EXPECT_EQ(read_all(Elements(counting({})), 1), std::vector<std::int32_t>{0});
  EXPECT_EQ(read_all(Elements(counting({1, 1})), 1), std::vector<std::int32_t>{0});
}

TEST(Elements, RefusesToReadPastTheEnd) {
  const Elements elements(counting({3}));
  std::vector<std::byte> out(8);
  elements.read(1, out);
  EXPECT_ERROR(elements.read(2, out), Code::invalid_argument, "3 elements");
  EXPECT_ERROR(elements.read(0, std::span(out).first(3)), Code::invalid_argument, "elements of 4 bytes");
}

TEST(Elements, RefusesAViewThatTurnsAFewBytesIntoALongWork) {
  Tensor tensor = counting({1});
  tensor.sizes = {std::int64_t{1} << 40}, tensor.strides = {0};
  EXPECT_ERROR(Elements{tensor}, Code::refused, "repeats the 4 bytes");
  tensor.sizes = {1 << 20};
  EXPECT_EQ(Elements(tensor).count(), std::uint64_t{1} << 20);
}

TEST(Elements, RefusesATensorThatLeavesItsStorage) {
  Tensor tensor = counting({4});
  tensor.sizes = {5};
  EXPECT_ERROR(Elements{tensor}, Code::corrupt, "storage has 4");
}

TEST(ContiguousStorage, IsTheStorageItselfWhereTheTensorIsAllOfIt) {
  const Tensor tensor = counting({2, 3});
  EXPECT_EQ(contiguous_storage(tensor), tensor.storage);
}

TEST(ContiguousStorage, ReadsAnyBytesOfAView) {
  Tensor tensor = counting({3, 4});
  std::swap(tensor.sizes[0], tensor.sizes[1]);
  std::swap(tensor.strides[0], tensor.strides[1]);
  const StoragePtr storage = contiguous_storage(tensor);
  const std::string bytes = tensor.contiguous_bytes();
  ASSERT_EQ(storage->nbytes(), bytes.size());
  for (std::size_t from = 0; from <= bytes.size(); ++from) {
    for (std::size_t count = 0; count <= bytes.size() - from; ++count) {
      std::string out(count, '?');
      storage->read(from, std::as_writable_bytes(std::span(out)));
      ASSERT_EQ(out, bytes.substr(from, count));
    }
  }
  std::string out(2, '?');
  EXPECT_ERROR(storage->read(bytes.size() - 1, std::as_writable_bytes(std::span(out))), Code::invalid_argument,
               "outside a tensor of 48 bytes");
}

}  // namespace
}  // namespace torchkeep
