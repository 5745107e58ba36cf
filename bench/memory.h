// SPDX-License-Identifier: BSD-3-Clause
// What this process holds, as Linux tells it.
#pragma once

#include <cstdint>
#include <fstream>
#include <string>

namespace bench {

/// A number of kilobytes from /proc/self/status, in bytes: VmRSS is held now, VmHWM was at the most.
inline std::int64_t memory(const std::string& field) {
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);) {
    if (line.rfind(field + ":", 0) == 0) return std::stoll(line.substr(field.size() + 1)) * 1024;
  }
  return 0;
}

/// VmHWM begins anew.
inline void forget_peak() {
  std::ofstream("/proc/self/clear_refs") << 5;
}

}  // namespace bench
