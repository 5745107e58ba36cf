// SPDX-License-Identifier: BSD-3-Clause
// What the options of a run may be.
#include "check_options.h"

#include <algorithm>
#include <fmt/format.h>

#include <torchkeep/files/stores.h>

#include "places.h"

namespace torchkeep {
namespace {

constexpr double kDefaultSaveSeconds = 600;

}  // namespace

std::string spelled(const RunOptions& options, std::string_view name, std::string_view value) {
  if (options.spelling == Spelling::cpp) return fmt::format("RunOptions::{} = {}", name, value);
  const std::size_t colons = value.rfind(':');
  return fmt::format("{}=\"{}\"", name, colons == std::string_view::npos ? value : value.substr(colons + 1));
}

void require_folder(const std::string& directory) {
  if (directory.find('\0') != std::string::npos)
    throw Error(Code::invalid_argument, "expected a folder, found a path with a NUL byte in it", at_file(directory));
  if (&store_of(directory) != &posix_fs()) return;
  const std::size_t mark = directory.find("://");
  const auto is_scheme = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '+' || c == '-' ||
           c == '.';
  };
  if (mark == std::string::npos || mark == 0 ||
      !std::all_of(directory.begin(), directory.begin() + std::ptrdiff_t(mark), is_scheme))
    return;
  throw Error(Code::invalid_argument,
              "expected a folder, found the address of a store: a run writes to a local or mounted file system; name a "
              "folder there and copy its checkpoints, or mount the store",
              at_file(directory));
}

RunOptions checked(RunOptions options) {
  const auto require = [](bool holds, const char* message) {
    if (!holds) throw Error(Code::invalid_argument, message);
  };
  require(options.save_every >= 0 && options.save_seconds >= 0, "expected save_every and save_seconds to be 0 or more");
  require(options.keep_last >= 0 && options.keep_every >= 0 && options.keep_best >= 0,
          "expected keep_last, keep_every and keep_best to be 0 or more");
  require(options.keep_best == 0 || !options.best_metric.empty(), "keep_best needs best_metric, the name of a metric");
  require(!options.save_on_best || !options.best_metric.empty(),
          "save_on_best needs best_metric, the name of a metric");
  require(options.stop_after_failures >= 0, "expected stop_after_failures to be 0 or more");
  if (options.save_every == 0 && options.save_seconds == 0) options.save_seconds = kDefaultSaveSeconds;
  if (options.save_on_best && options.keep_best == 0) options.keep_best = 1;
  return options;
}

}  // namespace torchkeep
