// SPDX-License-Identifier: BSD-3-Clause
// What a run writes: the entries of its checkpoints and the lines of its logs, with the functions that write and read
// them. The names of the files are in names.h; docs/run-directory.md describes both.
//
// A change of what is written raises kLayoutVersion, keeps reading every earlier layout, and adds two directories to
// tests/golden.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <torchkeep/run/options.h>
#include <torchkeep/run/retention.h>
#include <torchkeep/state/value.h>

namespace torchkeep::schema {

/// The layout that this version writes, and the newest that it reads. 1: checkpoints without "layout_version";
/// 2: with it.
inline constexpr std::int64_t kLayoutVersion = 2;

/// Entries of a checkpoint beside what is tracked.
inline constexpr const char* kStep = "step";
inline constexpr const char* kLayout = "layout_version";
inline constexpr const char* kMetrics = "metrics";
inline constexpr const char* kProvenance = "provenance";
/// Entries that the fronts track, with the options of these names.
inline constexpr const char* kRng = "rng";
inline constexpr const char* kGradients = "gradients";

/// True for the entries that every checkpoint has, which nothing can be tracked as.
bool is_reserved(std::string_view name) noexcept;

/// The entry "provenance": which process wrote a checkpoint, and what led to it.
struct Provenance {
  std::string torchkeep = {};  ///< the version that wrote it
  std::string host = {};
  std::int64_t pid = 0;
  std::string time = {};                         ///< UTC: "2026-11-23T22:39:01Z"
  std::optional<std::int64_t> parent_step = {};  ///< the checkpoint before it; nothing at the beginning
  std::vector<std::int64_t> resumed_at = {};     ///< the steps at which processes continued, oldest first
  std::optional<KeepRules> keep = {};            ///< the rules of retention; their `by` is `best_by`
  std::optional<BestBy> best_by = {};            ///< what "best" goes by
};

/// `extra` are the entries of the front (versions of libraries), which stand behind the others.
Value to_value(const Provenance& provenance, const Value& extra = Value::mapping(Kind::dict));
/// Reads what `checkpoint` says of its provenance; what is missing or of another kind stays empty.
Provenance provenance_of(const Value& checkpoint);

/// The layout of a checkpoint. Throws Error: unsupported, for a layout that only a later version knows (the message
/// names that version); corrupt, when `checkpoint` is no dict or its layout is no positive integer.
std::int64_t layout_of(const Value& checkpoint);
/// The step of a checkpoint whose layout is known. Throws as layout_of(), and Error (corrupt) when it has no step.
std::int64_t step_of(const Value& checkpoint);
/// Its metrics, a dict; None when it has none.
Value metrics_of(const Value& checkpoint);
/// The value of a metric as a number; nothing when it has none, or one that is no number.
std::optional<double> metric_in(const Value& metrics, std::string_view name);

/// A line of metrics.jsonl, with its newline. NaN and infinities, which JSON lacks, are the strings "NaN", "Infinity"
/// and "-Infinity"; bytes that are no UTF-8 become U+FFFD.
std::string metrics_line(std::int64_t step, const Value& metrics);
struct MetricsLine {
  std::int64_t step = 0;
  std::vector<std::pair<std::string, double>> numbers;  ///< the metrics whose values are numbers, in their order
};
/// Nothing for what is no JSON object with a step.
std::optional<MetricsLine> parse_metrics_line(std::string_view line);

/// A line of saves.jsonl, with its newline.
std::string save_line(const SaveMetrics& save);
/// Nothing for what is no line of that file.
std::optional<SaveMetrics> parse_save_line(std::string_view line);

}  // namespace torchkeep::schema
