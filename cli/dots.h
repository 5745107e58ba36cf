// SPDX-License-Identifier: BSD-3-Clause
// A panel of a chart as dots of Braille, for terminals.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include "chart.h"

namespace torchkeep::cli {

/// The panel's curves in so many rows of so many characters (1 at least), each of 2 by 4 dots.
std::vector<std::string> draw_dots(const Chart& chart, const Panel& panel, std::size_t columns, std::size_t rows);

}  // namespace torchkeep::cli
