// SPDX-License-Identifier: BSD-3-Clause
// What a run under test reports.
#pragma once

#include <algorithm>
#include <string>
#include <vector>

#include <torchkeep/run/options.h>

namespace torchkeep::testing {

/// Collects the events of a run that is opened with options().
struct Events {
  std::vector<Event> all;

  RunOptions options(Fs& fs, RunOptions options = {}) {
    options.fs = &fs;
    options.on_event = [this](const Event& event) { all.push_back(event); };
    return options;
  }
  std::string warnings() const {
    std::string text;
    for (const Event& event : all) {
      if (event.is_warning()) text += event.message + "\n";
    }
    return text;
  }
  bool has(Event::Kind kind) const {
    return std::any_of(all.begin(), all.end(), [kind](const Event& event) { return event.kind == kind; });
  }
};

}  // namespace torchkeep::testing
