// SPDX-License-Identifier: BSD-3-Clause
// load_state_dict in two parts, so that several objects can be checked before the first of them is changed: each
// function reads and checks everything now (and throws what load_state_dict throws); what it returns makes the change.
#pragma once

#include <functional>

#include <ATen/core/Generator.h>

#include <torchkeep/format/live_reader.h>
#include <torchkeep/torch/module.h>
#include <torchkeep/torch/optimizer.h>
#include <torchkeep/torch/report.h>
#include <torchkeep/torch/rng.h>

namespace torchkeep {

/// With a `reader`, tensors of the file that lie there as the live ones do are added to it and not read yet: the caller
/// has it read everything before it makes the change. Without one everything is read with the checks.
std::function<void()> prepare_load(torch::nn::Module& module, const Value& value, const ModuleLoadOptions& options,
                                   LoadReport& report, LiveReader* reader = nullptr);
/// `modules` may be null; it is only looked at during the call.
std::function<void()> prepare_load(torch::optim::Optimizer& optimizer, const Value& value, const NamedModules* modules,
                                   const OptimizerLoadOptions& options, LoadReport& report,
                                   LiveReader* reader = nullptr);
/// The default generators.
std::function<void()> prepare_load_rng(const Value& value, const RngLoadOptions& options);
/// One generator.
std::function<void()> prepare_load_rng(const at::Generator& generator, const Value& value);

}  // namespace torchkeep
