// SPDX-License-Identifier: BSD-3-Clause
// Where a command writes a file to: a path, or standard output.
#pragma once

#include <string>

#include <torchkeep/format/plan.h>

namespace torchkeep::cli {

/// Thrown when a signal asked the program to stop while it wrote a file, of which nothing is left.
struct Interrupted {
  int signal;
};

class Target {
 public:
  /// "-" is standard output, which must not be a terminal. Throws Error (invalid_argument) for that, and for a file
  /// that exists, unless `force`.
  Target(std::string path, bool force);

  bool is_stream() const noexcept { return path_ == "-"; }
  const std::string& path() const noexcept { return path_; }
  /// Writes the file: published atomically and durably, or streamed. Throws Interrupted.
  void write(Plan plan, bool shows_progress) const;
  void write(const std::string& text) const;

 private:
  std::string path_;
};

}  // namespace torchkeep::cli
