// SPDX-License-Identifier: BSD-3-Clause
// The catalogue: zips.
#include <functional>

#include "support/broken_files.h"
#include "support/file_parts.h"

namespace torchkeep::testing {
namespace {

using namespace parts;

enum Place : std::size_t { kPickle, kByteOrder, kData, kVersion };

std::string honest_pickle() {
  return pickle(empty_dict() + entry(text("weight"), tensor(storage("0", 4), 0, {2, 2}, {2, 1})));
}

// A file of torch.save whose records were changed.
BrokenFile changed(const char* name, std::optional<Code> code, const char* message,
                   const std::function<void(std::vector<Record>&)>& change, const End& end = {},
                   const PtReadOptions& options = {}) {
  std::vector<Record> records = torch_records(honest_pickle());
  change(records);
  return {std::string("zip.") + name, zip(records, end), code, message, options};
}
// One whose end record was changed.
BrokenFile ended(const char* name, std::optional<Code> code, const char* message, const End& end) {
  return changed(
      name, code, message, [](std::vector<Record>&) {}, end);
}
// One with a field of one record changed.
template <class T, class V>
BrokenFile with(const char* name, Code code, const char* message, Place place, T Record::*field, V value) {
  return changed(name, code, message, [&](std::vector<Record>& records) { records[place].*field = value; });
}

std::vector<BrokenFile> headers() {
  constexpr Code corrupt = Code::corrupt, refused = Code::refused, unsupported = Code::unsupported;
  return {
      with("local_name_differs", corrupt, "disagree about its name", kData, &Record::local_name, "archive/data/1"),
      with("local_name_longer", corrupt, "disagree about its name", kData, &Record::local_name, "archive/data/0x"),
      with("local_method_differs", corrupt, "disagree about its method", kData, &Record::local_method, 8),
      with("local_flags_differ", corrupt, "disagree about its flags", kData, &Record::local_flags, 2),
      with("local_crc_differs", corrupt, "disagree about its CRC", kData, &Record::local_crc, 1),
      with("local_size_differs", corrupt, "disagree about its size", kData, &Record::local_size, 17),
      with("local_stored_size_differs", corrupt, "disagree about its stored size", kData, &Record::local_stored_size,
           15),
      with("local_extra_reaches_into_the_next", corrupt, "reach into what follows", kData, &Record::local_extra, 4),
      with("no_local_header", corrupt, "do not fit", kPickle, &Record::offset, 4),
      with("offset_past_the_directory", corrupt, "do not fit", kPickle, &Record::offset, 0x7fffffff),
      with("records_overlap", corrupt, "do not fit", kVersion, &Record::offset, 0),
      with("encrypted", unsupported, "encrypted", kData, &Record::flags, 1),
      with("bzip2", unsupported, "compression method 12", kData, &Record::method, 12),
      with("lzma", unsupported, "compression method 14", kData, &Record::method, 14),
      with("zstandard", unsupported, "compression method 93", kData, &Record::method, 93),
      with("stored_size_differs_from_size", corrupt, "stored in 15 bytes but 16 long", kData, &Record::stored_size, 15),
      with("size_differs_from_stored_size", corrupt, "stored in 16 bytes but 99 long", kData, &Record::size, 99),
      with("zip64_extra_missing", corrupt, "missing from the zip64 extra field", kData, &Record::size, 0xffffffff),
      changed("zip64_extra_short", corrupt, "missing from the zip64 extra field",
              [](auto& records) {
                records[kData].size = records[kData].stored_size = 0xffffffff;
                records[kData].central_extra = u16(1) + u16(8) + u64(16);
              }),
      changed("zip64_extra_past_its_end", corrupt, "passes its end",
              [](auto& records) {
                records[kData].size = 0xffffffff;
                records[kData].central_extra = u16(1) + u16(80) + u64(16);
              }),
      changed("zip64_size_of_the_universe", corrupt, "do not fit",
              [](auto& records) {
                records[kData].size = records[kData].stored_size = 0xffffffff;
                records[kData].central_extra = u16(1) + u16(16) + u64(~0ull) + u64(~0ull);
              }),
      changed("two_records_of_one_name", corrupt, "two records of this name",
              [](auto& records) { records.push_back(records[kData]); }),
      with("name_with_dots", refused, "a record name with", kVersion, &Record::name, "archive/../../etc/passwd"),
      with("name_with_a_dot", refused, "a record name with", kVersion, &Record::name, "archive/./version"),
      with("name_with_nul", refused, "a record name with", kVersion, &Record::name, std::string("archive/a\0b", 11)),
      with("absolute_name", corrupt, "outside the folder", kVersion, &Record::name, "/etc/passwd"),
      with("another_folder", corrupt, "outside the folder 'archive/'", kVersion, &Record::name, "other/version"),
      with("no_folder", corrupt, "outside the folder", kVersion, &Record::name, "version"),
      with("backslash_is_no_folder", corrupt, "outside the folder", kVersion, &Record::name, "archive\\version"),
  };
}

std::vector<BrokenFile> ends() {
  constexpr Code corrupt = Code::corrupt;
  std::vector<BrokenFile> files = {
      ended("count_too_small", corrupt, "bytes after the last entry", {.count = 3}),
      ended("count_too_large", corrupt, "records in a directory of", {.count = 60000}),
      ended("count_of_one_more", corrupt, "ends in the middle", {.count = 5}),
      ended("directory_too_short", corrupt, "does not end where the end record begins", {.directory_size = 20}),
      ended("directory_offset_past_the_file", corrupt, "does not end where", {.directory_offset = 0x7fffffff}),
      ended("second_disk", Code::unsupported, "a zip of several parts", {.disk = 1}),
      ended("comment_cut_off", corrupt, "end record is missing", {.comment_size = 10}),
      ended("comment", std::nullopt, "", {.comment = "made by somebody"}),
  };
  const std::string honest = torch_zip(honest_pickle());
  files.push_back({"zip.junk_behind", honest + "junk", corrupt, "end record is missing"});
  files.push_back({"zip.junk_before", "junk" + honest, corrupt, "not a checkpoint of any format"});
  files.push_back({"zip.cut_off", honest.substr(0, honest.size() - 30), corrupt, "end record is missing"});
  files.push_back({"zip.second_zip_behind", honest + honest, Code::unsupported, "several zips"});
  files.push_back({"zip.signature_only", "PK\3\4", corrupt, "end record is missing"});
  files.push_back({"zip.empty", std::string("PK\5\6") + std::string(18, '\0'), Code::unsupported, "an empty zip"});
  files.push_back({"zip.end_record_only", "PK\3\4PK\5\6" + std::string(18, '\0'), corrupt, "does not end where"});
  files.push_back({"zip.honest", honest, std::nullopt});
  return files;
}

std::vector<BrokenFile> contents() {
  constexpr Code corrupt = Code::corrupt, refused = Code::refused, unsupported = Code::unsupported;
  const auto wrong_crc = [](Place place) { return [place](auto& records) { records[place].crc = 1; }; };
  std::vector<BrokenFile> files = {
      changed("wrong_crc_of_a_tensor", corrupt, "data/0: CRC-32 is", wrong_crc(kData)),
      changed("wrong_crc_of_the_pickle", corrupt, "data.pkl: CRC-32 is", wrong_crc(kPickle)),
      changed("wrong_crc_of_the_version", corrupt, "version: CRC-32 is", wrong_crc(kVersion)),
      changed("wrong_crc_of_the_byte_order", corrupt, "byteorder: CRC-32 is", wrong_crc(kByteOrder)),
      changed("wrong_crc_on_request", std::nullopt, "", wrong_crc(kData), {}, {.verify = false}),
      changed("crc_not_computed", std::nullopt, "", [](auto& records) { records[kData].crc = 0; }),
      changed("deflated", std::nullopt, "",
              [](auto& records) {
                for (Record& record : records) record.deflate = true;
              }),
      changed("deflated_to_garbage", corrupt, "does not inflate",
              [](auto& records) { records[kData].method = 8, records[kData].stored = "\xff\xff\xff\xff"; }),
      changed("deflated_to_less", corrupt, "does not inflate",
              [](auto& records) { records[kPickle].deflate = true, records[kPickle].size = 500; }),
      changed("deflated_to_more", corrupt, "does not inflate",
              [](auto& records) { records[kPickle].deflate = true, records[kPickle].size = 8; }),
      changed("impossible_expansion", refused, "impossible",
              [](auto& records) { records[kData].deflate = true, records[kData].size = 0x7fffffff; }),
      changed("zip_bomb", refused, "Limits::max_inflation",
              [](auto& records) { records[kData].deflate = true, records[kData].data.assign(80 << 20, '\0'); }),
      changed("records_in_another_order", std::nullopt, "",
              [](auto& records) { std::swap(records[kPickle], records[kVersion]); }),
      changed("byte_order_renamed", corrupt, "may be the record byteorder, which is missing, under a changed name",
              [](auto& records) { records[kByteOrder].name = "archive/bytdorder", records[kByteOrder].data = "big"; }),
      changed("byte_order_in_capitals", corrupt, "may be the record byteorder, which is missing, under a changed name",
              [](auto& records) { records[kByteOrder].name = "archive/ByteOrder"; }),
      changed(
          "byte_order_missing_beside_the_format_version", corrupt, "no record byteorder",
          [](auto& records) { records[kByteOrder].name = "archive/.format_version", records[kByteOrder].data = "1"; }),
      changed("storages_that_differ_by_case", corrupt, "differs from this one by case alone",
              [](auto& records) {
                records.push_back({.name = "archive/data/key", .data = "x"});
                records.push_back({.name = "archive/data/Key", .data = "y"});
              }),
      changed("local_crc_saturated", corrupt, "disagree about its CRC",
              [](auto& records) { records[kData].local_crc = 0xffffffff; }),
      changed("patched", unsupported, "an encrypted record", [](auto& records) { records[kData].flags = 0x0020; }),
      changed("a_record_more", std::nullopt, "",
              [](auto& records) { records.push_back({.name = "archive/notes.txt", .data = "hello"}); }),
      changed(
          "a_record_more_and_no_byte_order", std::nullopt, "",
          [](auto& records) { records[kByteOrder].name = "archive/notes.txt", records[kByteOrder].data = "hello"; }),
      changed("a_record_more_whose_name_was_changed", corrupt, "disagree about its name",
              [](auto& records) {
                records.push_back({.name = "archive/.data/serialization_ie",
                                   .data = "1",
                                   .local_name = "archive/.data/serialization_id"});
              }),
      changed("storage_in_capitals", corrupt, "letters changed their case",
              [](auto& records) { records.push_back({.name = "archive/Data/0", .data = "0123456789abcdef"}); }),
      changed("a_folder_entry", std::nullopt, "",
              [](auto& records) { records.insert(records.begin(), {.name = "archive/", .data = ""}); }),
      changed("too_many_records", refused, "Limits::max_records", [](auto&) {}, {}, {.limits = {.max_records = 3}}),
      changed("pickle_over_the_limit", refused, "more than the limit of 10", [](auto&) {}, {},
              {.limits = {.max_pickle_bytes = 10}}),
      changed("no_pickle", corrupt, "no record data.pkl", [](auto& records) { records.erase(records.begin()); }),
      changed("no_version", corrupt, "no record version", [](auto& records) { records.pop_back(); }),
      changed("version_of_no_number", corrupt, "no version number",
              [](auto& records) { records[kVersion].data = "three"; }),
      changed("version_0", corrupt, "no version number", [](auto& records) { records[kVersion].data = "0"; }),
      changed("version_from_the_future", unsupported, "version 11",
              [](auto& records) { records[kVersion].data = "11"; }),
      changed("version_of_a_megabyte", refused, "more than the limit of 64",
              [](auto& records) { records[kVersion].data.assign(1 << 20, '3'); }),
      changed("no_byte_order", std::nullopt, "", [](auto& records) { records.erase(records.begin() + kByteOrder); }),
      changed("big_endian", std::nullopt, "", [](auto& records) { records[kByteOrder].data = "big"; }),
      changed("middle_endian", corrupt, "neither little nor big",
              [](auto& records) { records[kByteOrder].data = "middle"; }),
      changed("storage_missing", corrupt, "record 'data/0' is missing",
              [](auto& records) { records.erase(records.begin() + kData); }),
      changed("storage_too_short", corrupt, "has 15 bytes, its tensor expects 16",
              [](auto& records) { records[kData].data.pop_back(); }),
      changed("storage_too_long", corrupt, "has 17 bytes, its tensor expects 16",
              [](auto& records) { records[kData].data += "x"; }),
      changed("torchscript_of_old", unsupported, "TorchScript archive of PyTorch before 1.4",
              [](auto& records) { records[kPickle].name = "archive/model.json"; }),
      changed("torch_export", unsupported, "torch.export",
              [](auto& records) { records[kPickle].name = "archive/archive_format"; }),
      changed("torch_package", unsupported, "torch.package",
              [](auto& records) { records.push_back({.name = "archive/.data/extern_modules", .data = "x"}); }),
      {"zip.of_checkpoints", zip({{.name = "policy.pth", .data = "x"}, {.name = "data", .data = "{}"}}), unsupported,
       "1 files which may be checkpoints (policy.pth)"},
      {"zip.of_arrays", zip({{.name = "a.npy", .data = "x"}}), corrupt, "outside the folder"},
  };
  return files;
}

}  // namespace

std::vector<BrokenFile> broken_zips() {
  std::vector<BrokenFile> files;
  for (const auto& part : {headers(), ends(), contents()}) files.insert(files.end(), part.begin(), part.end());
  return files;
}

}  // namespace torchkeep::testing
