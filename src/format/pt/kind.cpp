// SPDX-License-Identifier: BSD-3-Clause
// What a zip is, by the names of its records.
#include "kind.h"

#include <algorithm>
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <unordered_set>

#include "show.h"

namespace torchkeep::pt {
namespace {

// All records of a zip of torch.save but the storages.
constexpr std::string_view kNames[] = {"data.pkl",
                                       "version",
                                       ".data/version",
                                       "byteorder",
                                       ".format_version",
                                       ".storage_alignment",
                                       ".data/serialization_id"};

bool is_digit(char letter) noexcept {
  return letter >= '0' && letter <= '9';
}

// As PyTorch's reader compares names: letters of ASCII alone have a case.
std::string fold(std::string_view name) {
  std::string folded(name);
  for (char& letter : folded) {
    if (letter >= 'A' && letter <= 'Z') letter = static_cast<char>(letter - 'A' + 'a');
  }
  return folded;
}

[[noreturn]] void fail(const zip::Reader& zip, Code code, std::string message) {
  throw Error(code, std::move(message), {.file = zip.file().name(), .record = {}, .offset = {}, .key = {}});
}

bool is_checkpoint(std::string_view name) {
  constexpr std::string_view kEndings[] = {".pth", ".pt", ".th", ".ckpt", ".bin", ".pkl", ".safetensors"};
  return std::any_of(std::begin(kEndings), std::end(kEndings), [&](std::string_view e) { return name.ends_with(e); });
}

// Without its folders.
std::string_view file_name(const ReadAt& file) {
  const std::string_view path = file.name();
  return path.substr(path.rfind('/') + 1);
}

[[noreturn]] void fail_other(const zip::Reader& zip) {
  if (zip.find("model.json") != nullptr) {
    fail(zip, Code::unsupported, "a TorchScript archive of PyTorch before 1.4 (model.json)");
  }
  if (zip.find("archive_format") != nullptr) fail(zip, Code::unsupported, "a program of torch.export (.pt2)");
  if (zip.find(".data/extern_modules") != nullptr) fail(zip, Code::unsupported, "an archive of torch.package");
  if (const zip::Record* foreign = zip.foreign(); foreign != nullptr && zip.find(zip.root() + "data.pkl") != nullptr) {
    zip.fail(*foreign, Code::corrupt, fmt::format("a record outside the folder '{}'", detail::show(zip.root())));
  }
  constexpr std::size_t kShown = 5;
  std::vector<std::string> inside;
  std::size_t count = 0;
  for (const zip::Record& record : zip.records()) {
    if (!is_checkpoint(record.name)) continue;
    if (++count <= kShown) inside.push_back(detail::show(zip.name(record)));
  }
  if (count != 0) {
    fail(zip, Code::unsupported,
         fmt::format("a zip that holds {} files which may be checkpoints ({}{}): open one as '{}::{}'", count,
                     fmt::join(inside, ", "), count > kShown ? ", ..." : "", detail::show(file_name(zip.file())),
                     inside[0]));
  }
  if (const zip::Record* foreign = zip.foreign()) {
    zip.fail(*foreign, Code::corrupt, fmt::format("a record outside the folder '{}'", detail::show(zip.root())));
  }
  fail(zip, Code::corrupt, "no record data.pkl: not a file of torch.save");
}

constexpr std::string_view kStorage = "data/";

bool is_known(std::string_view name, FileFormat format) {
  constexpr std::string_view kScripts[] = {"code/", "constants/", "extra/", "constants.pkl"};
  if (name.starts_with(kStorage) && name.size() > kStorage.size()) return true;
  if (std::find(std::begin(kNames), std::end(kNames), name) != std::end(kNames)) return true;
  return format == FileFormat::torch_script &&
         std::any_of(std::begin(kScripts), std::end(kScripts),
                     [&](std::string_view start) { return name.starts_with(start); });
}

// A record that another tool added is none of ours, unless it is one of ours whose name was changed: then it would be
// missed, and that has a meaning.
void check_other(const zip::Reader& zip, const zip::Record& record, bool has_byte_order) {
  zip.locate(record);  // a name that was changed in one of its two places
  if (fold(record.name).starts_with(kStorage))
    zip.fail(record, Code::corrupt, "the name of a storage's record whose letters changed their case");
  // Without it the numbers of a big-endian machine are taken for others.
  constexpr std::string_view kOrders[] = {"big", "little"};
  if (has_byte_order || std::none_of(std::begin(kOrders), std::end(kOrders),
                                     [&](std::string_view order) { return record.size == order.size(); }))
    return;
  zip.fail(
      record, Code::corrupt,
      fmt::format("torch.save writes no record of this name, and it may be the record byteorder, which is missing, "
                  "under a changed name ({} bytes)",
                  record.size));
}

}  // namespace

FileFormat classify(const zip::Reader& zip) {
  if (zip.foreign() != nullptr || zip.find("data.pkl") == nullptr) fail_other(zip);
  if (zip.find(".data/extern_modules") != nullptr) fail_other(zip);
  return zip.find("constants.pkl") != nullptr ? FileFormat::torch_script : FileFormat::torch_zip;
}

std::vector<std::string> check_names(const zip::Reader& zip, FileFormat format) {
  std::unordered_set<std::string> folded;
  std::vector<std::string> others;
  const bool has_byte_order = zip.find("byteorder") != nullptr;
  for (const zip::Record& record : zip.records()) {
    if (record.size == 0 && (record.name.empty() || record.name.ends_with('/'))) continue;  // a folder of a zip tool
    if (!is_known(record.name, format)) {
      check_other(zip, record, has_byte_order);
      others.push_back(zip.name(record));
    }
    const std::string_view key = record.name.substr(record.name.starts_with(kStorage) ? kStorage.size() : 0);
    if (std::all_of(key.begin(), key.end(), is_digit)) continue;  // without letters, no case
    if (!folded.insert(fold(record.name)).second)
      zip.fail(record, Code::corrupt, "another record's name differs from this one by case alone");
  }
  if (zip.find(".format_version") != nullptr && !has_byte_order)
    fail(zip, Code::corrupt, "no record byteorder, which torch.save writes beside .format_version");
  return others;
}

}  // namespace torchkeep::pt
