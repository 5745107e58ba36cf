// SPDX-License-Identifier: BSD-3-Clause
// Where a command writes a file to: a path, or standard output.
#pragma once

#include <string>

#include <torchkeep/format/plan.h>
#include <torchkeep/state/value.h>

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
  /// Writes the value as a folder of torch.distributed.checkpoint, which must be empty or missing, durably; its marks
  /// of completeness come last. Returns the bytes of its data file. Throws Interrupted.
  std::uint64_t write_folder(const Value& value, bool shows_progress) const;

 private:
  std::string path_;
};

}  // namespace torchkeep::cli
