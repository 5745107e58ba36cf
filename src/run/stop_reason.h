// SPDX-License-Identifier: BSD-3-Clause
// Why a run stops, in words.
#pragma once

#include <csignal>
#include <fmt/format.h>
#include <string>

namespace torchkeep {

/// What goes behind "stopping at step N": `signal` asked for it, or, when it is 0, the program.
inline std::string reason_in_words(int signal) {
  switch (signal) {
    case 0:
      return " as requested";
    case SIGTERM:
      return " on SIGTERM";
    case SIGINT:
      return " on SIGINT";
    case SIGUSR1:
      return " on SIGUSR1";
    default:
      return fmt::format(" on signal {}", signal);
  }
}

}  // namespace torchkeep
