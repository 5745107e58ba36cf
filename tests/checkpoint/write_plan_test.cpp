// SPDX-License-Identifier: BSD-3-Clause
// Writing a Plan: every byte once, front to back, in calls worth making, with the right CRCs.
#include "write_plan.h"

#include <cstring>
#include <filesystem>
#include <gtest/gtest.h>

#include "support/conformance.h"
#include "support/expect_error.h"
#include "support/pt_files.h"
#include "support/temp_dir.h"

namespace torchkeep {
namespace {

/// What was written, and by which calls.
struct Recording {
  struct Call {
    std::uint64_t offset;
    std::uint64_t size;
  };
  std::string data;
  std::vector<Call> calls;
};

class RecordingFile final : public File {
 public:
  explicit RecordingFile(Recording& recording) : recording_(recording) {}
  void write_at(std::uint64_t offset, Bytes bytes) override {
    recording_.calls.push_back({offset, bytes.size()});
    std::string& data = recording_.data;
    if (data.size() < offset + bytes.size()) data.resize(offset + bytes.size());
    std::memcpy(data.data() + offset, bytes.data(), bytes.size());
  }
  bool reserve(std::uint64_t) override { return false; }
  void sync() override {}
  void close() override {}
  const std::string& path() const noexcept override { return path_; }

 private:
  Recording& recording_;
  std::string path_ = "recording.pt";
};

/// Memory that only read() reaches, as a device's or a file's.
class HiddenStorage final : public Storage {
 public:
  explicit HiddenStorage(std::string bytes) : bytes_(std::move(bytes)) {}
  std::uint64_t nbytes() const noexcept override { return bytes_.size(); }
  void read(std::uint64_t offset, MutableBytes out) const override {
    std::memcpy(out.data(), bytes_.data() + offset, out.size());
  }

 private:
  std::string bytes_;
};

std::string pattern(std::size_t size) {
  std::string bytes(size, '\0');
  for (std::size_t i = 0; i < size; ++i) bytes[i] = static_cast<char>(i * 7 + i / 251);
  return bytes;
}

Tensor over(StoragePtr storage) {
  Tensor tensor;
  tensor.dtype = DType::uint8;
  tensor.sizes = {static_cast<std::int64_t>(storage->nbytes())};
  tensor.strides = {1};
  tensor.storage = std::move(storage);
  return tensor;
}

Recording written(const Value& value) {
  Plan plan = plan_pt(value);
  Recording recording;
  RecordingFile file(recording);
  write_plan(plan, file);
  return recording;
}

TEST(WritePlan, WritesTheFileThePlanDescribes) {
  for (const auto& [name, value] : testing::conformance_states()) {
    EXPECT_TRUE(written(value).data == testing::pt_bytes(value)) << name;
  }
}

// Around the sizes at which extents are gathered, blocks are cut and buffers are full.
class PayloadSize : public ::testing::TestWithParam<std::size_t> {};

TEST_P(PayloadSize, IsWrittenRightFromMemoryAndThroughRead) {
  const std::string bytes = pattern(GetParam());
  const Value value =
      List{over(std::make_shared<OwnedStorage>(as_bytes(bytes))), 7, over(std::make_shared<HiddenStorage>(bytes)),
           over(std::make_shared<OwnedStorage>(as_bytes("small")))};
  EXPECT_TRUE(written(value).data == testing::pt_bytes(value));
  EXPECT_TRUE(testing::read_all(written(value).data) == value);
}

constexpr std::size_t kKiB = 1024;
INSTANTIATE_TEST_SUITE_P(WritePlan, PayloadSize,
                         ::testing::Values(0, 1, 63, 64, 65, 64 * kKiB - 1, 64 * kKiB, 64 * kKiB + 1, 1024 * kKiB - 1,
                                           1024 * kKiB, 1024 * kKiB + 1, 2048 * kKiB + 3, 5 * 1024 * kKiB));

TEST(WritePlan, TellsItsProgressAndEndsWithWhatThatThrows) {
  Plan plan = plan_pt(List{over(std::make_shared<OwnedStorage>(as_bytes(pattern(5'000'000))))});
  Recording recording;
  RecordingFile file(recording);
  std::vector<std::uint64_t> told;
  write_plan(plan, file, [&](std::uint64_t done, std::uint64_t total) {
    EXPECT_EQ(done, recording.data.size());
    EXPECT_EQ(total, plan.file_size);
    told.push_back(done);
  });
  EXPECT_GE(told.size(), 5u);
  EXPECT_EQ(told.back(), plan.file_size);

  const testing::TempDir folder;
  const std::string path = folder / "there.pt";
  save(Value("old"), path);
  struct Enough {};
  EXPECT_THROW(save_plan(plan, path, {}, [](std::uint64_t, std::uint64_t) { throw Enough(); }), Enough);
  EXPECT_EQ(load(path).as_string(), "old");
  EXPECT_EQ(std::distance(std::filesystem::directory_iterator(std::filesystem::path(path).parent_path()), {}), 1);
}

TEST(WritePlan, GoesFromFrontToBackWithoutGapOrOverlap) {
  const Value value =
      List{over(std::make_shared<OwnedStorage>(as_bytes(pattern(3'000'000)))), Value::string(std::string(100, 't')),
           over(std::make_shared<HiddenStorage>(pattern(1'500'000)))};
  const Recording file = written(value);
  std::uint64_t end = 0;
  for (const auto& call : file.calls) {
    EXPECT_EQ(call.offset, end);
    EXPECT_LE(call.size, 1024 * kKiB);
    end += call.size;
  }
  EXPECT_EQ(end, plan_pt(value).file_size);
}

TEST(WritePlan, GathersSmallNeighbours) {
  std::vector<Value> tensors;
  for (int i = 0; i < 10'000; ++i) tensors.push_back(Tensor::of<std::int64_t>({4}, {i, i, i, i}));
  const Recording file = written(Value::sequence(Kind::list, std::move(tensors)));
  EXPECT_LE(file.calls.size(), file.data.size() / (900 * kKiB) + 3);
}

TEST(WritePlan, PassesOnWhatAStorageThrows) {
  class Broken final : public Storage {
   public:
    std::uint64_t nbytes() const noexcept override { return 100; }
    void read(std::uint64_t, MutableBytes) const override { throw Error(Code::io, "the device is gone"); }
  };
  EXPECT_ERROR(written(over(std::make_shared<Broken>())), Code::io, "the device is gone");
}

}  // namespace
}  // namespace torchkeep
