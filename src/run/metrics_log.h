// SPDX-License-Identifier: BSD-3-Clause
// metrics.jsonl: one line of JSON per step, cut back to where a run resumes so that its curves never overlap.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include <torchkeep/files/fs.h>
#include <torchkeep/state/value.h>

namespace torchkeep {

/// The metrics of a step as a dict of bools, integers, doubles, texts and None; tensors of one element became numbers.
/// Throws Error (invalid_argument) naming the entry that is anything else.
Value plain_metrics(const Value& metrics);

/// Appends to the log. Never fails: what cannot be written is kept and tried again with the next line, up to a
/// megabyte.
class MetricsLog final {
 public:
  MetricsLog(Fs& fs, std::string directory);

  /// Drops the lines of steps after `step`, and broken ones; same result as append(). What cannot be dropped now is
  /// dropped before the next line is written.
  std::string rewind(std::int64_t step);
  /// Adds the line of a step. Returns what went wrong, empty when nothing did; tells each outage once.
  std::string append(std::int64_t step, const Value& metrics);
  /// Makes what was appended survive a power cut; same result as append().
  std::string sync();

 private:
  std::string attempt(bool sync);
  void cut(std::int64_t step);
  void flush(bool sync);
  void publish_all(bool sync);

  Fs& fs_;
  std::string directory_;
  std::string path_;
  std::unique_ptr<File> file_;
  std::uint64_t size_ = 0;              ///< of what is in the file
  std::optional<std::int64_t> cut_at_;  ///< the step whose lines are to be the last, when that is still to be done
  std::string pending_;                 ///< lines not written yet
  std::uint64_t dropped_ = 0;
  bool synced_ = true;
  bool failing_ = false;
};

}  // namespace torchkeep
