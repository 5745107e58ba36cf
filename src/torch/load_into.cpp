// SPDX-License-Identifier: BSD-3-Clause
// load_into of LibTorch's objects: every one is checked, then every one is changed.
#include <algorithm>
#include <fmt/format.h>
#include <vector>

#include <torchkeep/torch/load_into.h>

#include "prepare.h"

namespace torchkeep {

LoadTarget::LoadTarget(torch::nn::Module& module, const ModuleLoadOptions& options)
    : module_(&module), prepare_([&module, options](const Value& state, LiveReader& reader, const KeysOf&) {
        LoadReport report;
        return prepare_load(module, state, options, report, &reader);
      }) {}

LoadTarget::LoadTarget(torch::optim::Optimizer& optimizer, const OptimizerLoadOptions& options)
    : prepare_([&optimizer, options](const Value& state, LiveReader& reader, const KeysOf&) {
        LoadReport report;
        return prepare_load(optimizer, state, nullptr, options, report, &reader);
      }) {}

LoadTarget::LoadTarget(torch::optim::Optimizer& optimizer, NamedModules modules, const OptimizerLoadOptions& options)
    : prepare_([&optimizer, modules = std::move(modules), options](const Value& state, LiveReader& reader,
                                                                   const KeysOf& keys_of) {
        OptimizerLoadOptions own = options;
        for (const NamedModule& named : modules.modules()) {
          const std::vector<std::string> keys = keys_of(named);
          own.model_keys.insert(own.model_keys.end(), keys.begin(), keys.end());
        }
        LoadReport report;
        return prepare_load(optimizer, state, &modules, own, report, &reader);
      }) {}

Value load_into(const std::string& path, std::initializer_list<std::pair<std::string, LoadTarget>> targets,
                const LoadIntoOptions& options) {
  const OpenedCheckpoint opened(path, options);
  const Value& checkpoint = opened.value();
  LiveReader reader(LiveReader::Strides::same);
  std::vector<std::function<void()>> changes;
  Value rest = checkpoint;
  const auto keys_of = [&](const NamedModule& named) {
    const auto target =
        std::find_if(targets.begin(), targets.end(), [&](const auto& one) { return one.second.is(*named.module); });
    return target == targets.end() ? std::vector<std::string>() : model_keys(checkpoint[target->first], named.name);
  };
  for (const auto& [key, target] : targets) {
    changes.push_back(target.prepare(checkpoint[key], reader, keys_of));
    rest.erase(Value::string(key));
  }
  if (options.verify_first) opened.verify();
  // What nobody takes is read before anything is changed; afterwards the file is not needed any more.
  rest = rest.clone().from_file(path);
  reader.read();
  for (const auto& change : changes) change();
  return rest;
}

}  // namespace torchkeep
