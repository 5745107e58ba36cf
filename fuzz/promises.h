// SPDX-License-Identifier: BSD-3-Clause
// What the targets share: promises, whose breach ends the program, and limits.
#pragma once

#include <string_view>

#include <torchkeep/format/pt.h>

namespace torchkeep::fuzz {

/// Prints the promise and ends the program.
[[noreturn]] void broken(const char* promise);
inline void expect(bool holds, const char* promise) {
  if (!holds) broken(promise);
}

/// Small enough that an input which makes much out of little is an error, and not only slow.
Limits small_limits();

// Targets of other files than targets.cpp.
void run_load_into(std::string_view bytes);
void run_compounds(std::string_view bytes);
void run_run_directory(std::string_view bytes);
void run_plot(std::string_view bytes);

/// A directory as bytes: for each file its name, a NUL, the length of its bytes (u32), and the bytes.
std::string pack(const std::vector<std::pair<std::string, std::string>>& files);

}  // namespace torchkeep::fuzz
