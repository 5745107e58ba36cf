// SPDX-License-Identifier: BSD-3-Clause
// The pieces of torchkeep show.
#pragma once

#include <torchkeep/state/value.h>

#include "verbs.h"

namespace torchkeep::cli {

/// A tensor: what it is, its statistics, a histogram, its numbers.
void show_tensor(Session& session, const Value& value, const ShowOptions& options);
/// A tree of everything in `part`; the states of optimizers, schedulers and random generators in their own forms.
void show_tree(Session& session, const Value& part, const ShowOptions& options);

/// Lines about a value in a form of its own: param_groups as a table, a generator's seed. Empty: it has none.
std::vector<std::string> special_lines(const Session& session, std::string_view key, const Value& value);

}  // namespace torchkeep::cli
