// SPDX-License-Identifier: BSD-3-Clause
// A scheduler's attributes as Values: saving one, checking and taking one over, showing one.
#pragma once

#include "schedule.h"

namespace torchkeep::lr_scheduler::detail {

/// The attribute as Python's state dict holds it.
Value to_value(const Slot& slot);
/// As Python prints it.
std::string to_text(const Slot& slot);
/// What is to be done to put `value` into the slot; throws Error (mismatch) when it is of another kind.
std::function<void()> plan_assignment(const Slot& slot, const Value& value);
/// The text of `value` read as the kind of thing `slot` holds.
std::string to_text(const Slot& slot, const Value& value);
/// The class whose argument `key` is, among the schedulers: to tell the state of another class from an old file's
/// additional key. Empty when there is none.
std::string_view owner_of(std::string_view key);

}  // namespace torchkeep::lr_scheduler::detail
