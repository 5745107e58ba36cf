// SPDX-License-Identifier: BSD-3-Clause
// verify() finds what load() would find, and a save that reads back never publishes what it would find.
#include <gtest/gtest.h>
#include <string>

#include <torchkeep/checkpoint/checkpoint.h>

#include "support/expect_error.h"
#include "support/fault_fs.h"
#include "support/memory_fs.h"
#include "support/whole_file.h"

namespace torchkeep {
namespace {

using testing::create_file;
using testing::FaultFs;
using testing::MemoryFs;
using testing::read_file;

Value state() {
  return {{"a", Tensor::of<float>({5}, {1, 2, 3, 4, 5})},
          {"b", Tensor::of<std::uint8_t>({1}, {7})},
          {"none", Tensor::of<float>({0}, {})}};
}

TEST(Verify, AcceptsWhatWasSaved) {
  MemoryFs fs;
  save(state(), "a.pt", {.fs = &fs});
  EXPECT_NO_THROW(verify("a.pt", {.fs = &fs}));
}

TEST(Verify, FindsEveryChangedBitThatLoadFindsAndMore) {
  MemoryFs fs;
  save(state(), "a.pt", {.fs = &fs});
  const std::string good = read_file(fs, "a.pt");
  std::size_t found = 0;
  std::size_t more = 0;
  for (std::size_t i = 0; i < good.size(); ++i) {
    MemoryFs changed;
    std::string bytes = good;
    bytes[i] = static_cast<char>(bytes[i] ^ 0x10);
    create_file(changed, "a.pt", bytes);
    const auto refuses = [&](auto read) {
      try {
        read();
        return false;
      } catch (const Error&) {
        return true;
      }
    };
    const bool load_refuses = refuses([&] { load("a.pt", {.fs = &changed}); });
    const bool verify_refuses = refuses([&] { verify("a.pt", {.fs = &changed}); });
    EXPECT_TRUE(verify_refuses || !load_refuses) << "byte " << i;
    found += load_refuses;
    more += verify_refuses && !load_refuses;
  }
  EXPECT_GT(more, 20u);  // the descriptors behind the records, for one
  EXPECT_GT(found, good.size() / 4);
}

TEST(Verify, NamesTheMissingFile) {
  MemoryFs fs;
  EXPECT_ERROR(verify("a.pt", {.fs = &fs}), Code::not_found, "a.pt");
}

/// A disk that changes a byte of what is written to it.
class Unreliable final : public FaultFs {
 public:
  explicit Unreliable(Fs& inner) : FaultFs(inner, {}), inner_(inner) {}
  std::unique_ptr<ReadAt> open_read(const std::string& path) override {
    std::string bytes = read_file(inner_, path);
    bytes[bytes.find("\x80\x3f")] ^= 1;  // of the 1.0F
    return std::make_unique<MemoryReadAt>(std::move(bytes), path);
  }

 private:
  Fs& inner_;
};

TEST(SaveWithReadBack, PublishesNothingThatReadsBackWrong) {
  MemoryFs disk;
  save(Value{{"old", 1}}, "a.pt", {.fs = &disk});
  const std::string before = read_file(disk, "a.pt");
  Unreliable fs(disk);
  EXPECT_ERROR(save(state(), "a.pt", {.read_back = true, .fs = &fs}), Code::corrupt, "CRC-32");
  EXPECT_EQ(read_file(disk, "a.pt"), before);
  EXPECT_EQ(disk.list("."), std::vector<std::string>{"a.pt"});
}

TEST(SaveWithReadBack, ReadsAfterTheSync) {
  MemoryFs disk;
  FaultFs fs(disk, {});
  save(state(), "a.pt", {.read_back = true, .fs = &fs});
  std::size_t sync = 0, read = 0, rename = 0;
  const auto calls = fs.calls();
  for (std::size_t i = 0; i < calls.size(); ++i) {
    if (calls[i].starts_with("sync ") && sync == 0) sync = i;
    if (calls[i].starts_with("open for reading") && read == 0) read = i;
    if (calls[i].starts_with("rename")) rename = i;
  }
  EXPECT_LT(0U, sync);
  EXPECT_LT(sync, read);
  EXPECT_LT(read, rename);
}

}  // namespace
}  // namespace torchkeep
