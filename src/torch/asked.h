// SPDX-License-Identifier: BSD-3-Clause
// What a program asks for, and what a checkpoint of another asking overrides.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include <torch/optim/optimizer.h>

#include <torchkeep/state/value.h>

namespace torchkeep {

/// What a checkpoint's provenance keeps of an optimizer: {"class", "hyperparameters": one dict for each group}; None
/// for a class that is none of LibTorch's. The same in Python.
Value asked_for(const torch::optim::Optimizer& optimizer);

/// Where the checkpoint's state, which is about to be loaded, overrides what this program asks for: lines for people.
/// `recorded` is what asked_for() was when the run began.
std::vector<std::string> overridden(const torch::optim::Optimizer& optimizer, const Value& recorded,
                                    const Value& state);

/// The same of a scheduler: {"class"}.
Value asked_for_scheduler(const std::string& class_name);

/// One line where the checkpoint's scheduler is of another class than the one that its state is about to be loaded
/// into.
std::optional<std::string> other_scheduler(const std::string& class_name, const Value& recorded);

}  // namespace torchkeep
