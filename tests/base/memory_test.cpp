// SPDX-License-Identifier: BSD-3-Clause
// Memory for vectors that may become large.
#include <gtest/gtest.h>
#include <numeric>

#include <torchkeep/base/memory.h>

namespace torchkeep {
namespace {

TEST(LargeVector, KeepsItsElementsWhileItGrowsIntoLargePages) {
  LargeVector<std::uint32_t> numbers;
  for (std::uint32_t i = 0; i < 2'000'000; ++i) numbers.push_back(i);
  EXPECT_EQ(reinterpret_cast<std::uintptr_t>(numbers.data()) % kHugePage, 0u);
  for (std::uint32_t i = 0; i < numbers.size(); ++i) ASSERT_EQ(numbers[i], i);
  const LargeVector<std::uint32_t> copy = numbers;
  EXPECT_TRUE(copy == numbers);
}

TEST(LargeVector, RefusesSizesThatOverflow) {
  LargeAllocator<std::uint64_t> allocator;
  EXPECT_THROW((void)allocator.allocate(std::numeric_limits<std::size_t>::max() / 2), std::bad_array_new_length);
}

}  // namespace
}  // namespace torchkeep
