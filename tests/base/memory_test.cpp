// SPDX-License-Identifier: BSD-3-Clause
// Memory for vectors that may become large.
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <gtest/gtest.h>
#include <numeric>
#include <string>

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

/// A tree with the files that tell of limits, where a system has its /proc and /sys.
class Tree {
 public:
  Tree() {
    char name[] = "/tmp/torchkeep-memory-XXXXXX";
    root_ = ::mkdtemp(name);
  }
  ~Tree() { std::filesystem::remove_all(root_); }
  Tree& with(const std::string& path, const std::string& text) {
    std::filesystem::create_directories(std::filesystem::path(root_ + path).parent_path());
    std::ofstream(root_ + path) << text << "\n";
    return *this;
  }
  std::uint64_t usable() const { return usable_memory(root_); }

 private:
  std::string root_;
};

TEST(UsableMemory, IsTheMachinesWhereNoCgroupLimitsIt) {
  const std::uint64_t machine = Tree().usable();
  EXPECT_GT(machine, std::uint64_t{64} << 20);
  EXPECT_EQ(Tree().with("/proc/self/cgroup", "0::/a").with("/sys/fs/cgroup/a/memory.max", "max").usable(), machine);
  EXPECT_EQ(Tree().with("/proc/self/cgroup", "0::/a").with("/sys/fs/cgroup/a/memory.max", "99999999999999999").usable(),
            machine);
  EXPECT_LE(usable_memory(), machine);
}

TEST(UsableMemory, IsTheSmallestLimitOnTheWayToTheTop) {
  EXPECT_EQ(Tree()
                .with("/proc/self/cgroup", "0::/job/step/task")
                .with("/sys/fs/cgroup/job/memory.max", "3000000")
                .with("/sys/fs/cgroup/job/step/memory.max", "max")
                .with("/sys/fs/cgroup/job/step/task/memory.max", "4000000")
                .usable(),
            3'000'000U);
}

TEST(UsableMemory, OfAContainerIsThatOfItsTopmostGroup) {
  EXPECT_EQ(Tree().with("/proc/self/cgroup", "0::/").with("/sys/fs/cgroup/memory.max", "5000000").usable(), 5'000'000U);
  EXPECT_EQ(Tree().with("/proc/self/cgroup", "0::/docker/0123").with("/sys/fs/cgroup/memory.max", "5000000").usable(),
            5'000'000U)
      << "the path is the host's, and not there";
}

TEST(UsableMemory, KnowsTheFirstVersionOfCgroups) {
  EXPECT_EQ(Tree()
                .with("/proc/self/cgroup", "5:cpu,cpuacct:/other\n4:memory:/job\n0::/")
                .with("/sys/fs/cgroup/memory/job/memory.limit_in_bytes", "6000000")
                .with("/sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712")
                .usable(),
            6'000'000U);
}

}  // namespace
}  // namespace torchkeep
