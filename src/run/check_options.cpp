// SPDX-License-Identifier: BSD-3-Clause
// What the options of a run may be.
#include "check_options.h"

#include <torchkeep/base/error.h>

namespace torchkeep {
namespace {

constexpr double kDefaultSaveSeconds = 600;

}  // namespace

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
