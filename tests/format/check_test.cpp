// SPDX-License-Identifier: BSD-3-Clause
// check_file() is the strictest reader: what another one refuses it never calls good, and it looks where no other does.
#include <gtest/gtest.h>

#include <torchkeep/format/check.h>

#include "support/broken_files.h"
#include "support/expect_error.h"
#include "support/file_parts.h"
#include "support/pt_files.h"

namespace torchkeep {
namespace {

using namespace testing::parts;
using testing::as_file;
using testing::BrokenFile;
using testing::read_whole;

// Nothing: good. Else the code under which the file is no good.
std::optional<Code> verdict(const std::string& bytes, const PtReadOptions& options = {}) {
  try {
    const FileCheck check = check_file(
        as_file(bytes), {.limits = options.limits, .unknown_classes = options.unknown_classes, .threads = 1});
    EXPECT_EQ(check.good(), !check.error.has_value());
    return check.good() ? std::nullopt : std::optional(check.error->code());
  } catch (const Error& error) {
    return error.code();
  }
}

TEST(Check, CallsNothingGoodThatLoadRefuses) {
  for (const BrokenFile& file : testing::broken_files()) {
    const auto code = verdict(file.bytes, file.options);
    EXPECT_TRUE(code || !file.code) << file.name << " is called good";
    // Unsupported and refused files are not damaged.
    const bool is_refused = file.code && *file.code != Code::corrupt;
    EXPECT_FALSE(is_refused && code == Code::corrupt) << file.name;
  }
}

TEST(Check, WhatItCallsGoodIsRead) {
  std::size_t good = 0;
  for (const BrokenFile& file : testing::broken_files()) {
    if (verdict(file.bytes, file.options)) continue;
    EXPECT_NO_THROW(read_whole(file.bytes, file.options)) << file.name;
    ++good;
  }
  EXPECT_GE(good, 40u);
}

/// A file that load() reads and that hides something.
struct Hiding {
  const char* name;
  std::string bytes;
  const char* problem;
};

constexpr std::size_t kData = 2;  // its place among torch_records()

std::string object() {
  return tensor(storage("0", 4), 0, {4}, {1});
}

template <class Change>
std::string changed(Change change) {
  std::vector<Record> records = torch_records(pickle(object()));
  change(records);
  return testing::parts::zip(records);
}

std::vector<Hiding> hiding() {
  std::string descriptor = testing::pt_bytes({{"w", Tensor::of<float>({2}, {1, 2})}});
  descriptor[descriptor.find("PK\7\10") + 4] ^= 1;
  std::string padded = tar_member("sys_info", pickle("}}}}}}}}}")) + torch_tar().bytes();
  padded[1023] = 'x';
  return {
      {"bytes behind the pickle's end", torch_zip(pickle(object()) + "cos\nsystem\n"), "behind the end of the pickle"},
      {"a pickle behind the pickle", pickle("N") + pickle("K\1"), "behind the end of the pickle"},
      {"bytes behind a stream", stream().bytes() + "more", "behind the last storage"},
      {"a member more in a tar", tar_member("hidden", "more") + torch_tar().bytes(), "a member 'hidden' of 4 bytes"},
      {"bytes in the padding of a tar", padded, "500 bytes behind a member"},
      {"bytes behind a tar", torch_tar().bytes() + "more", "1028 bytes behind the last member"},
      {"a record that no tensor needs", changed([](auto& records) {
         records.push_back({.name = "archive/.data/serialization_id", .data = "42", .crc = 1});
       }),
       "CRC-32 is"},
      {"bytes between two records", changed([](auto& records) {
         records[kData].stored = records[kData].data + "junk";
         records[kData].stored_size = 16;
         records[kData].local_stored_size = 16;
       }),
       "4 bytes behind it belong to no record"},
      {"a flag that nobody sets", changed([](auto& records) { records[kData].flags = 0x0100; }), "flags 0x0100"},
      {"a descriptor that differs", descriptor, "data descriptor behind it and the directory disagree"},
  };
}

TEST(Check, FindsWhatNoOtherReaderLooksAt) {
  for (const Hiding& file : hiding()) {
    SCOPED_TRACE(file.name);
    EXPECT_NO_THROW(read_whole(file.bytes));
    const FileCheck check = check_file(as_file(file.bytes), {.threads = 1});
    EXPECT_FALSE(check.good());
    ASSERT_TRUE(check.error);
    EXPECT_EQ(check.error->code(), Code::corrupt);
    EXPECT_NE(std::string_view(check.error->what()).find(file.problem), std::string_view::npos) << check.error->what();
  }
}

TEST(Check, NamesTheRecordsThatOtherToolsAdded) {
  const std::string bytes =
      changed([](auto& records) { records.push_back({.name = "archive/notes.txt", .data = "hello"}); });
  EXPECT_TRUE(read_whole(bytes) == read_whole(changed([](auto&) {})));
  const FileCheck check = check_file(as_file(bytes), {.threads = 1});
  EXPECT_TRUE(check.good());
  ASSERT_EQ(check.notes.size(), 1u);
  EXPECT_EQ(check.notes[0], "1 record that torch.save does not write: archive/notes.txt");
}

TEST(Check, NoBitOfABigEndianFileGivesOtherNumbers) {
  const std::string good = changed([](auto& records) {
    records[1].data = "big";
    records.push_back({.name = "archive/notes.txt", .data = "hello"});
  });
  const Value value = read_whole(good);
  for (std::size_t bit = 0; bit < 8 * good.size(); ++bit) {
    std::string bytes = good;
    bytes[bit / 8] = static_cast<char>(bytes[bit / 8] ^ (1 << bit % 8));
    try {
      EXPECT_TRUE(read_whole(bytes) == value) << "bit " << bit % 8 << " of byte " << bit / 8;
    } catch (const Error&) {
      EXPECT_TRUE(verdict(bytes)) << "bit " << bit % 8 << " of byte " << bit / 8;
    }
  }
}

TEST(Check, ThrowsWhyAFileIsNotReadUnlessItIsDamagedToo) {
  std::vector<Record> records = torch_records(pickle(global("os", "system") + text("ls") + "\x85R"));
  EXPECT_ERROR(check_file(as_file(testing::parts::zip(records))), Code::refused, "os.system");
  records[2].crc = 1;
  const FileCheck check = check_file(as_file(testing::parts::zip(records)));
  EXPECT_FALSE(check.good());
  EXPECT_EQ(check.error->code(), Code::corrupt);
}

}  // namespace
}  // namespace torchkeep
