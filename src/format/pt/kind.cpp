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

}  // namespace

FileFormat classify(const zip::Reader& zip) {
  if (zip.foreign() != nullptr || zip.find("data.pkl") == nullptr) fail_other(zip);
  if (zip.find(".data/extern_modules") != nullptr) fail_other(zip);
  return zip.find("constants.pkl") != nullptr ? FileFormat::torch_script : FileFormat::torch_zip;
}

void check_names(const zip::Reader& zip) {
  constexpr std::string_view kStorage = "data/";
  std::unordered_set<std::string> folded;
  for (const zip::Record& record : zip.records()) {
    if (record.size == 0 && (record.name.empty() || record.name.ends_with('/'))) continue;  // a folder of a zip tool
    const bool is_storage = record.name.starts_with(kStorage) && record.name.size() > kStorage.size();
    const bool is_known =
        is_storage || std::find(std::begin(kNames), std::end(kNames), record.name) != std::end(kNames);
    if (!is_known) zip.fail(record, Code::corrupt, "torch.save writes no record of this name: a name that was changed");
    const std::string_view key = record.name.substr(is_storage ? kStorage.size() : 0);
    if (std::all_of(key.begin(), key.end(), is_digit)) continue;  // without letters, no case
    if (!folded.insert(fold(record.name)).second)
      zip.fail(record, Code::corrupt, "another record's name differs from this one by case alone");
  }
  if (zip.find(".format_version") != nullptr && zip.find("byteorder") == nullptr)
    fail(zip, Code::corrupt, "no record byteorder, which torch.save writes beside .format_version");
}

}  // namespace torchkeep::pt
