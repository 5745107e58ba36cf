// SPDX-License-Identifier: BSD-3-Clause
// Reads a record of a zip as a file of its own: archives of Stable-Baselines3 hold several checkpoints.
#include <algorithm>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <torchkeep/format/member.h>

#include "show.h"
#include "zip/zip.h"

namespace torchkeep {
namespace {

constexpr std::string_view kSeparator = "::";
constexpr std::size_t kShown = 12;  // names in an error

std::shared_ptr<const ReadAt> read_member(const std::shared_ptr<const ReadAt>& file, const std::string& path,
                                          std::string_view member, const Limits& limits) {
  const zip::Reader archive(file, limits);
  const auto records = archive.records();
  const auto found =
      std::find_if(records.begin(), records.end(), [&](const zip::Record& one) { return archive.name(one) == member; });
  if (found != records.end()) {
    return std::make_shared<MemoryReadAt>(archive.read(*found, true, std::numeric_limits<std::uint64_t>::max()), path);
  }
  std::vector<std::string> names;
  for (const zip::Record& one : records.first(std::min(records.size(), kShown)))
    names.push_back(detail::show(archive.name(one)));
  throw Error(Code::not_found,
              fmt::format("the zip has no file '{}'; it has: {}{}", detail::show(member), fmt::join(names, ", "),
                          records.size() > kShown ? ", ..." : ""),
              {.file = file->name(), .record = {}, .offset = {}, .key = {}});
}

}  // namespace

std::shared_ptr<const ReadAt> open_member(const std::string& path,
                                          const std::function<std::shared_ptr<const ReadAt>(const std::string&)>& open,
                                          const Limits& limits) {
  const std::size_t separator = path.find(kSeparator);
  if (separator == std::string::npos || separator == 0) return open(path);
  try {
    return open(path);
  } catch (const Error& error) {
    if (error.code() != Code::not_found) throw;
  }
  const std::string member = path.substr(separator + kSeparator.size());
  return read_member(open(path.substr(0, separator)), path, member, limits);
}

}  // namespace torchkeep
