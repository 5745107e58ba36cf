// SPDX-License-Identifier: BSD-3-Clause
// Reading a device's memory: every byte once and in order, one piece ahead, never into a buffer that is in use.
#include <cstring>
#include <gtest/gtest.h>
#include <string>
#include <utility>
#include <vector>

#include <torchkeep/state/device.h>

#include "support/expect_error.h"

namespace torchkeep {
namespace {

constexpr std::size_t kPiece = 100;

/// A device that copies as late as it may: when it is waited for.
class LazyDevice final : public DeviceCopies {
 public:
  std::vector<std::string> log;
  std::size_t fails_at = ~std::size_t{0};  ///< the wait that does

  MutableBytes buffer(std::size_t index) noexcept override { return std::span(memory_[index]).first(kPiece); }
  void follow_caller() override { log.push_back("follow"); }
  void start(std::size_t buffer, const void* from, std::size_t size) override {
    EXPECT_EQ(sizes_[buffer], 0U) << "a copy into this buffer is under way";
    from_[buffer] = from;
    sizes_[buffer] = size;
    log.push_back("start " + std::to_string(size));
  }
  void wait(std::size_t buffer) override {
    ASSERT_GT(sizes_[buffer], 0U) << "nothing is under way";
    log.push_back("wait");
    std::memcpy(memory_[buffer], from_[buffer], std::exchange(sizes_[buffer], 0));
    if (waits_++ == fails_at) throw Error(Code::io, "the device fell off the bus");
  }
  bool is_idle() const { return sizes_[0] == 0 && sizes_[1] == 0; }

 private:
  std::byte memory_[kBuffers][kPiece];
  const void* from_[kBuffers] = {};
  std::size_t sizes_[kBuffers] = {};
  std::size_t waits_ = 0;
};

std::string pattern(std::size_t size) {
  std::string bytes(size, '\0');
  for (std::size_t i = 0; i < size; ++i) bytes[i] = static_cast<char>(i * 7 + i / 251);
  return bytes;
}

TEST(DeviceReader, GivesEveryByteInOrderWhateverTheSizes) {
  for (const std::size_t size : {0U, 1U, 99U, 100U, 101U, 200U, 201U, 1050U}) {
    for (const std::size_t step : {1U, 7U, 100U, 333U, 2000U}) {
      const auto device = std::make_shared<LazyDevice>();
      const std::string there = pattern(size);
      std::string here(size, '\0');
      DeviceReader reader(device, there.data(), size);
      for (std::size_t done = 0; done < size; done += step) {
        reader.read(std::as_writable_bytes(std::span(here)).subspan(done, std::min(step, size - done)));
      }
      EXPECT_TRUE(here == there) << size << " bytes, " << step << " at a time";
      EXPECT_TRUE(device->is_idle());
    }
  }
}

TEST(DeviceReader, HasTheNextPieceOnItsWayWhileOneIsWorkedWith) {
  const auto device = std::make_shared<LazyDevice>();
  const std::string there = pattern(250);
  std::string here(100, '\0');
  DeviceReader reader(device, there.data(), there.size());
  EXPECT_EQ(device->log, (std::vector<std::string>{"follow", "start 100", "start 100"}));
  reader.read(std::as_writable_bytes(std::span(here)));
  EXPECT_EQ(device->log, (std::vector<std::string>{"follow", "start 100", "start 100", "wait", "start 50"}));
}

TEST(DeviceReader, WaitsForWhatIsUnderWayBeforeItIsGone) {
  const auto device = std::make_shared<LazyDevice>();
  const std::string there = pattern(1000);
  { const DeviceReader reader(device, there.data(), there.size()); }
  EXPECT_TRUE(device->is_idle());
}

TEST(DeviceReader, ThrowsWhatTheDeviceReports) {
  const auto device = std::make_shared<LazyDevice>();
  device->fails_at = 1;
  const std::string there = pattern(1000);
  std::string here(1000, '\0');
  DeviceReader reader(device, there.data(), there.size());
  EXPECT_ERROR(reader.read(std::as_writable_bytes(std::span(here))), Code::io, "the device fell off the bus");
}

TEST(DeviceReader, RefusesToReadPastTheEnd) {
  const std::string there = pattern(150);
  std::string here(151, '\0');
  DeviceReader reader(std::make_shared<LazyDevice>(), there.data(), there.size());
  EXPECT_ERROR(reader.read(std::as_writable_bytes(std::span(here))), Code::invalid_argument, "outside the device's");
}

}  // namespace
}  // namespace torchkeep
