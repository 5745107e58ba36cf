// SPDX-License-Identifier: BSD-3-Clause
// torch_schedulers_test.py runs this beside PyTorch: the schedulers on LibTorch's optimizers, and real .pt files.
#include <algorithm>
#include <array>
#include <iostream>

#include <torch/torch.h>

#include <torchkeep/torch.h>

#include "peer.h"

namespace torchkeep::test {
namespace {

std::unique_ptr<torch::optim::Optimizer> make_optimizer(const std::string& name, std::size_t groups) {
  using namespace torch::optim;
  std::vector<OptimizerParamGroup> params;
  for (std::size_t i = 0; i < groups; ++i) {
    params.emplace_back(std::vector<at::Tensor>{torch::zeros({1}, torch::requires_grad())});
  }
  if (name == "SGD") return std::make_unique<SGD>(params, SGDOptions(0.5));
  if (name == "Adam") return std::make_unique<Adam>(params);
  if (name == "AdamW") return std::make_unique<AdamW>(params);
  if (name == "RMSprop") return std::make_unique<RMSprop>(params);
  if (name == "Adagrad") return std::make_unique<Adagrad>(params);
  throw std::runtime_error("no optimizer " + name);
}

class TorchWorld final : public World {
 public:
  TorchWorld(const std::string& name, const std::vector<Value>& groups)
      : optimizer_(make_optimizer(name, groups.size())) {
    for (std::size_t i = 0; i < groups.size(); ++i) {
      for (const Entry& entry : groups[i].items()) set_group_value(*optimizer_, i, entry.key.as_string(), entry.value);
    }
  }

  lr_scheduler::OptimizerRef optimizer() override { return *optimizer_; }

  std::vector<Value> groups() override {
    constexpr std::array<std::string_view, 9> keys = {"lr",     "momentum",     "betas",         "initial_lr", "max_lr",
                                                      "min_lr", "max_momentum", "base_momentum", "swa_lr"};
    const Value packed = state_dict(*optimizer_)["param_groups"];
    std::vector<Value> groups;
    for (const Value& group : packed.elements()) {
      Value known = Value::mapping(Kind::dict);
      for (const Entry& entry : group.items()) {
        const std::string_view key = entry.key.as_string();
        if (std::find(keys.begin(), keys.end(), key) != keys.end()) known.set(entry.key, entry.value);
      }
      groups.push_back(known);
    }
    return groups;
  }

  void load_groups(std::vector<Value> /*groups*/) override { throw std::runtime_error("load a file instead"); }
  void add_group(Value /*group*/) override { throw std::runtime_error("not here"); }

  void run(const Json& command, lr_scheduler::Scheduler& scheduler) override {
    const std::string path = decode(command.at(1)).as_string();
    if (command.at(0) == "save") {
      save({{"optimizer", state_dict(*optimizer_)}, {"scheduler", state_dict(scheduler)}}, path, {.durable = false});
    } else if (command.at(0) == "load") {
      const Value checkpoint = load(path);
      load_state_dict(*optimizer_, checkpoint["optimizer"]);
      load_state_dict(scheduler, checkpoint["scheduler"]);
    } else {
      World::run(command, scheduler);
    }
  }

 private:
  std::unique_ptr<torch::optim::Optimizer> optimizer_;
};

}  // namespace
}  // namespace torchkeep::test

int main() {
  std::ios::sync_with_stdio(false);
  return torchkeep::test::run_peer(std::cin, std::cout,
                                   [](const std::string& name, const std::vector<torchkeep::Value>& groups) {
                                     return std::make_unique<torchkeep::test::TorchWorld>(name, groups);
                                   });
}
