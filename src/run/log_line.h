// SPDX-License-Identifier: BSD-3-Clause
// What lines of a run's logs have in common: one JSON object each, with its step.
#pragma once

#include <cstdint>
#include <limits>
#include <nlohmann/json.hpp>
#include <optional>

namespace torchkeep {

/// The step of a line; nothing where there is none, and for a number that no step can be: it would be taken for
/// another.
inline std::optional<std::int64_t> step_of(const nlohmann::ordered_json& line) {
  const auto step = line.find("step");
  if (step == line.end() || !step->is_number_integer()) return std::nullopt;
  constexpr auto kMost = static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max());
  if (step->is_number_unsigned() && step->get<std::uint64_t>() > kMost) return std::nullopt;
  return step->get<std::int64_t>();
}

}  // namespace torchkeep
