// SPDX-License-Identifier: BSD-3-Clause
// The zip reader: each rule, and a file that breaks it.
#include <functional>
#include <gtest/gtest.h>
#include <libdeflate.h>

#include "support/expect_error.h"
#include "support/file_parts.h"
#include "support/pt_files.h"
#include "zip/records.h"
#include "zip/zip.h"

namespace torchkeep::zip {
namespace {

using testing::as_file;
using testing::assemble;

/// A zip of two records ("a" with "first record", "b" with "second"), and where its parts lie.
struct Sample {
  std::string file;
  std::size_t local[2];
  std::size_t central[2];
  std::size_t end64, locator, end;

  template <class T>
  void set(std::size_t offset, T value) {
    std::memcpy(file.data() + offset, &value, sizeof(T));
  }
  template <class T>
  T get(std::size_t offset) const {
    T value;
    std::memcpy(&value, file.data() + offset, sizeof(T));
    return value;
  }
};

Sample sample() {
  Writer writer("root");
  writer.add("a", "first record");
  writer.add("b", "second");
  Sample zip;
  zip.file = assemble(std::move(writer).finish());
  zip.end = zip.file.size() - kEndSize;
  zip.locator = zip.end - kLocatorSize;
  zip.end64 = zip.locator - kEnd64Size;
  zip.central[0] = zip.get<std::uint64_t>(zip.end64 + 48);
  zip.central[1] = zip.central[0] + kCentralSize + 6;
  for (int i = 0; i < 2; ++i) zip.local[i] = zip.get<std::uint32_t>(zip.central[i] + 42);
  return zip;
}

/// Opens the zip and reads every record.
void read_everything(const std::string& file, const Limits& limits = {}) {
  const Reader reader(as_file(file), limits);
  for (const Record& record : reader.records()) reader.read(record, true, 1 << 20);
}

TEST(ZipReader, ReadsWhatTheWriterWrote) {
  const Reader reader(as_file(sample().file), Limits{});
  EXPECT_EQ(reader.root(), "root/");
  EXPECT_EQ(reader.read(*reader.find("a"), true, 100), "first record");
  EXPECT_EQ(reader.read(*reader.find("b"), true, 100), "second");
  EXPECT_EQ(reader.find("c"), nullptr);
}

struct Damage {
  const char* name;
  std::function<void(Sample&)> make;
  Code code;
  const char* text;
};

class Damaged : public ::testing::TestWithParam<Damage> {};

TEST(ZipReader, TellsWhichRecordLiesOutsideOfTheFolder) {
  const std::string file = testing::parts::zip({{.name = "root/a", .data = "1"}, {.name = "foot/b", .data = "2"}});
  const Reader zip(as_file(file), {});
  ASSERT_NE(zip.foreign(), nullptr);
  EXPECT_EQ(zip.name(*zip.foreign()), "foot/b");
  EXPECT_EQ(zip.read(*zip.find("foot/b"), true, 100), "2");
}

TEST_P(Damaged, IsRefused) {
  Sample zip = sample();
  GetParam().make(zip);
  EXPECT_ERROR(read_everything(zip.file), GetParam().code, GetParam().text);
}

const Damage kDamages[] = {
    {"empty_file", [](Sample& z) { z.file.clear(); }, Code::corrupt, "end record is missing"},
    {"one_byte_short", [](Sample& z) { z.file.pop_back(); }, Code::corrupt, "end record is missing"},
    {"byte_after_the_end", [](Sample& z) { z.file += 'x'; }, Code::corrupt, "end record is missing"},
    {"comment_longer_than_the_file", [](Sample& z) { z.set(z.end + 20, std::uint16_t{5}); }, Code::corrupt,
     "end record is missing"},
    {"first_byte_gone", [](Sample& z) { z.file.erase(0, 1); }, Code::corrupt, "zip64 locator points to"},
    {"byte_before_the_zip", [](Sample& z) { z.file.insert(0, 1, 'x'); }, Code::corrupt, "zip64 locator points to"},
    {"end64_signature", [](Sample& z) { z.set(z.end64, std::uint32_t{0}); }, Code::corrupt, "no zip64 end record"},
    {"end64_size", [](Sample& z) { z.set(z.end64 + 4, std::uint64_t{45}); }, Code::corrupt, "no zip64 end record"},
    {"locator_points_elsewhere", [](Sample& z) { z.set(z.locator + 8, ~std::uint64_t{0}); }, Code::corrupt,
     "zip64 locator points to"},
    {"locator_gone", [](Sample& z) { z.set(z.locator, std::uint32_t{0}); }, Code::corrupt,
     "does not end where the end record begins"},
    {"counts_disagree", [](Sample& z) { z.set(z.end + 10, std::uint16_t{3}); }, Code::corrupt,
     "end record says entries 3"},
    {"directory_sizes_disagree", [](Sample& z) { z.set(z.end + 12, std::uint32_t{3}); }, Code::corrupt,
     "directory bytes 3"},
    {"directory_offsets_disagree", [](Sample& z) { z.set(z.end + 16, std::uint32_t{3}); }, Code::corrupt,
     "directory offset 3"},
    {"directory_beyond_the_file",
     [](Sample& z) {
       z.set(z.end + 16, kIn64);
       z.set(z.end64 + 48, std::uint64_t{1} << 60);
     },
     Code::corrupt, "does not end where the zip64 end record begins"},
    {"directory_wraps_around",
     [](Sample& z) {
       z.set(z.end + 16, kIn64), z.set(z.end + 12, kIn64);
       z.set(z.end64 + 48, ~std::uint64_t{0}), z.set(z.end64 + 40, std::uint64_t{z.end64 + 1});
     },
     Code::corrupt, "does not end where the zip64 end record begins"},
    {"more_entries_than_room",
     [](Sample& z) {
       z.set(z.end + 10, kIn64Short), z.set(z.end64 + 24, std::uint64_t{9}), z.set(z.end64 + 32, std::uint64_t{9});
     },
     Code::corrupt, "9 records in a directory of"},
    {"one_entry_less",
     [](Sample& z) {
       z.set(z.end + 10, std::uint16_t{1}), z.set(z.end64 + 24, std::uint64_t{1}),
           z.set(z.end64 + 32, std::uint64_t{1});
     },
     Code::corrupt, "bytes after the last entry"},
    {"several_disks", [](Sample& z) { z.set(z.end64 + 16, std::uint32_t{1}); }, Code::unsupported, "several parts"},
    {"disk_of_a_record", [](Sample& z) { z.set(z.central[1] + 34, std::uint16_t{1}); }, Code::unsupported,
     "several parts"},
    {"central_signature", [](Sample& z) { z.set(z.central[1], std::uint32_t{1}); }, Code::corrupt,
     "no central directory entry"},
    {"name_beyond_the_directory", [](Sample& z) { z.set(z.central[1] + 28, std::uint16_t{700}); }, Code::corrupt,
     "ends in the middle"},
    {"size_missing_from_zip64", [](Sample& z) { z.set(z.central[1] + 24, kIn64); }, Code::corrupt,
     "missing from the zip64 extra"},
    {"sizes_differ", [](Sample& z) { z.set(z.central[1] + 24, std::uint32_t{7}); }, Code::corrupt,
     "b: stored in 6 bytes but 7 long"},
    {"record_beyond_the_file", [](Sample& z) { z.set(z.central[1] + 42, std::uint32_t{1} << 30); }, Code::corrupt,
     "b: its 6 bytes do not fit"},
    {"record_too_long",
     [](Sample& z) { z.set(z.central[0] + 20, std::uint32_t{4000}), z.set(z.central[0] + 24, std::uint32_t{4000}); },
     Code::corrupt, "a: its 4000 bytes do not fit"},
    {"records_overlap", [](Sample& z) { z.set(z.central[1] + 42, static_cast<std::uint32_t>(z.local[0] + 8)); },
     Code::corrupt, "do not fit between its header"},
    {"two_records_at_one_place", [](Sample& z) { z.set(z.central[1] + 42, static_cast<std::uint32_t>(z.local[0])); },
     Code::corrupt, "do not fit between its header"},
    {"two_records_of_one_name", [](Sample& z) { z.file[z.central[1] + kCentralSize + 5] = 'a'; }, Code::corrupt,
     "a: two records of this name"},
    {"outside_the_root", [](Sample& z) { z.file[z.central[1] + kCentralSize] = 'f'; }, Code::corrupt,
     "disagree about its name"},
    {"dots_in_a_name", [](Sample& z) { z.file.replace(z.central[1] + kCentralSize, 6, "root/."); }, Code::refused,
     "'.' or '..'"},
    {"parent_in_a_name",
     [](Sample& z) {
       z.file.replace(z.central[0] + kCentralSize, 6, "../a/b"),
           z.file.replace(z.central[1] + kCentralSize, 6, "../a/c");
     },
     Code::refused, "'.' or '..'"},
    {"nul_in_a_name", [](Sample& z) { z.file[z.central[1] + kCentralSize + 5] = '\0'; }, Code::refused,
     "root/\\x00: a record name with a NUL"},
    {"encrypted",
     [](Sample& z) {
       const std::uint16_t flags = kFlagUtf8 | kFlagDescriptor | kFlagEncrypted;
       z.set(z.central[1] + 8, flags), z.set(z.local[1] + 6, flags);
     },
     Code::unsupported, "b: an encrypted record"},
    {"other_method",
     [](Sample& z) { z.set(z.central[1] + 10, std::uint16_t{12}), z.set(z.local[1] + 8, std::uint16_t{12}); },
     Code::unsupported, "b: compression method 12"},
    {"deflated_nonsense",
     [](Sample& z) { z.set(z.central[1] + 10, kMethodDeflated), z.set(z.local[1] + 8, kMethodDeflated); },
     Code::corrupt, "b: does not inflate"},
    {"inflates_impossibly",
     [](Sample& z) {
       z.set(z.central[1] + 10, kMethodDeflated), z.set(z.local[1] + 8, kMethodDeflated);
       z.set(z.central[1] + 24, std::uint32_t{1} << 31);
     },
     Code::refused, "b: 2147483648 bytes out of 6 deflated ones"},
    {"local_signature", [](Sample& z) { z.set(z.local[1], std::uint32_t{1}); }, Code::corrupt, "b: no local header at"},
    {"local_name", [](Sample& z) { z.file[z.local[1] + kLocalSize + 5] = 'c'; }, Code::corrupt,
     "disagree about its name"},
    {"local_root", [](Sample& z) { z.file[z.local[1] + kLocalSize] = 'c'; }, Code::corrupt, "disagree about its name"},
    {"local_name_length", [](Sample& z) { z.set(z.local[1] + 26, std::uint16_t{5}); }, Code::corrupt,
     "disagree about its name"},
    {"local_flags", [](Sample& z) { z.set(z.local[1] + 6, kFlagUtf8); }, Code::corrupt, "disagree about its flags"},
    {"local_method", [](Sample& z) { z.set(z.local[1] + 8, kMethodDeflated); }, Code::corrupt,
     "disagree about its method"},
    {"local_crc", [](Sample& z) { z.set(z.local[1] + 14, std::uint32_t{1}); }, Code::corrupt, "disagree about its CRC"},
    {"local_stored_size", [](Sample& z) { z.set(z.local[1] + 18, std::uint32_t{1}); }, Code::corrupt,
     "disagree about its stored size"},
    {"local_size", [](Sample& z) { z.set(z.local[1] + 22, std::uint32_t{1}); }, Code::corrupt,
     "disagree about its size"},
    {"extra_pushes_the_payload_out", [](Sample& z) { z.set(z.local[1] + 28, std::uint16_t{60000}); }, Code::corrupt,
     "reach into what follows"},
    {"payload_changed", [](Sample& z) { z.file[z.file.find("second")] = 'S'; }, Code::corrupt, "b: CRC-32 is"},
    {"crc_changed", [](Sample& z) { z.set(z.central[1] + 16, std::uint32_t{7}); }, Code::corrupt,
     "the directory says 00000007"},
};

INSTANTIATE_TEST_SUITE_P(ZipReader, Damaged, ::testing::ValuesIn(kDamages),
                         [](const auto& info) { return info.param.name; });

TEST(ZipReader, TakesACrcOfZeroAsNotComputed) {
  Sample zip = sample();
  zip.set(zip.central[1] + 16, std::uint32_t{0});
  zip.file[zip.file.find("second")] = 'S';
  const Reader reader(as_file(zip.file), Limits{});
  EXPECT_EQ(reader.read(*reader.find("b"), true, 100), "Second");
}

TEST(ZipReader, ReadsChangedBytesWhenAskedNotToVerify) {
  Sample zip = sample();
  zip.file[zip.file.find("second")] = 'S';
  const Reader reader(as_file(zip.file), Limits{});
  EXPECT_EQ(reader.read(*reader.find("b"), false, 100), "Second");
}

TEST(ZipReader, ErrorsNameFileAndRecord) {
  Sample zip = sample();
  zip.file[zip.file.find("second")] = 'S';
  EXPECT_ERROR(read_everything(zip.file), Code::corrupt, "test.pt: b: CRC-32 is ");
}

TEST(ZipReader, ChecksTheNumberOfRecordsBeforeReadingThem) {
  EXPECT_ERROR(read_everything(sample().file, {.max_records = 1}), Code::refused,
               "2 records, more than the limit of 1");
}

TEST(ZipReader, ChecksTheSizeOfARecordBeforeAllocating) {
  const Reader reader(as_file(sample().file), Limits{});
  EXPECT_ERROR(reader.read(*reader.find("a"), true, 11), Code::refused, "a: 12 bytes long, more than the limit of 11");
}

TEST(ZipReader, AcceptsACommentThatEndsWithTheFile) {
  for (const std::size_t size : {1, 22, 70, 80, 98, 99, 200, 65535}) {
    Sample zip = sample();
    zip.set(zip.end + 20, static_cast<std::uint16_t>(size));
    zip.file += std::string(size, '#');
    EXPECT_NO_THROW(read_everything(zip.file)) << size;
  }
}

TEST(ZipReader, AZipInsideARecordIsNotTakenForTheFile) {
  Writer writer("outer");
  writer.add("inner.zip", sample().file);
  writer.add("more", std::string(1000, 'x'));
  const std::string file = assemble(std::move(writer).finish());
  const std::size_t cut = file.find(sample().file) + sample().file.size();
  EXPECT_ERROR(read_everything(file.substr(0, cut)), Code::corrupt, "zip64 locator points to");
}

TEST(ZipReader, ALocatorThatPointsToBeforeTheFileIsRefused) {
  const Sample zip = sample();
  for (std::size_t before = 0; before < kEnd64Size; ++before) {
    std::string file = std::string(before, 'x') + zip.file.substr(zip.locator);
    // The sum that should be the end record's place wraps around to it.
    const std::uint64_t offset = before - std::uint64_t{kEnd64Size};
    std::memcpy(file.data() + before + 8, &offset, sizeof(offset));
    EXPECT_ERROR(read_everything(file), Code::corrupt, "without room for a zip64 end record") << before;
  }
}

TEST(ZipReader, InflatesDeflatedRecords) {
  const std::string text(10000, 'z');
  std::string packed(1000, '\0');
  auto* compressor = libdeflate_alloc_compressor(6);
  packed.resize(libdeflate_deflate_compress(compressor, text.data(), text.size(), packed.data(), packed.size()));
  libdeflate_free_compressor(compressor);
  Writer writer("root");
  writer.add("a", packed);
  std::string file = assemble(std::move(writer).finish());
  const std::size_t central = file.size() - 98 - kCentralSize - 6;
  const auto set = [&file](std::size_t offset, auto value) {
    std::memcpy(file.data() + offset, &value, sizeof(value));
  };
  set(central + 10, kMethodDeflated), set(8, kMethodDeflated);
  set(central + 24, static_cast<std::uint32_t>(text.size()));
  set(central + 16, std::uint32_t{0});
  const Reader reader(as_file(file), Limits{});
  EXPECT_EQ(reader.read(*reader.find("a"), true, 20000), text);
  set(central + 24, static_cast<std::uint32_t>(text.size() - 1));
  EXPECT_ERROR(read_everything(file), Code::corrupt, "does not inflate to the 9999 bytes");
  set(central + 24, static_cast<std::uint32_t>(text.size() + 1));
  EXPECT_ERROR(read_everything(file), Code::corrupt, "does not inflate to the 10001 bytes");
}

TEST(ZipReader, OpensInAFewReadsHoweverManyRecords) {
  Writer writer("root");
  for (int i = 0; i < 5000; ++i)
    writer.add(std::to_string(i), std::make_shared<testing::ZeroStorage>(1 << 20), 1 << 20);
  const auto file =
      std::make_shared<testing::CountingReadAt>(std::make_shared<testing::PlanReadAt>(std::move(writer).finish()));
  const Reader reader(file, Limits{});
  EXPECT_EQ(reader.records().size(), 5000u);
  EXPECT_LE(file->reads(), 3u);
  EXPECT_LT(file->bytes(), 5000u * 64);
}

}  // namespace
}  // namespace torchkeep::zip
