// SPDX-License-Identifier: BSD-3-Clause
// Every name in a run directory, and its parser. docs/run-directory.md says what each file is for.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace torchkeep::names {

/// Held by the one process that writes.
inline constexpr std::string_view kLock = ".lock";
/// In its place where something that is no file stands under that name.
inline constexpr std::string_view kOtherLock = ".lock-2";
/// One line of JSON for every step that had metrics.
inline constexpr std::string_view kMetrics = "metrics.jsonl";
inline constexpr std::string_view kSaves = "saves.jsonl";

/// "step-00000400.pt": a checkpoint. At least eight digits, so that names sort like steps up to 10^8.
std::string checkpoint(std::int64_t step);
std::optional<std::int64_t> parse_checkpoint(std::string_view name) noexcept;

/// "pin-00000400": while it exists, that step's checkpoint is kept.
std::string pin(std::int64_t step);
std::optional<std::int64_t> parse_pin(std::string_view name) noexcept;

/// "finished-00010000": training ended at this step.
std::string finished(std::int64_t step);
std::optional<std::int64_t> parse_finished(std::string_view name) noexcept;

/// "step-00000400.pt.broken", then "step-00000400.pt.broken-2" ...: a damaged checkpoint, set aside.
std::string broken(std::int64_t step, int number);
std::optional<std::int64_t> parse_broken(std::string_view name) noexcept;

/// ".step-00000400.pt.doomed": a checkpoint on its way out (see retain.h).
std::string doomed(std::int64_t step);
std::optional<std::int64_t> parse_doomed(std::string_view name) noexcept;

}  // namespace torchkeep::names
