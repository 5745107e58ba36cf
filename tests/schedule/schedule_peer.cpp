// SPDX-License-Identifier: BSD-3-Clause
// schedulers_test.py runs this beside PyTorch: the schedulers on plain groups, without LibTorch.
#include <iostream>

#include "memory_groups.h"
#include "peer.h"

namespace torchkeep::test {
namespace {

lr_scheduler::MomentumKind momentum_of(const std::string& optimizer) {
  if (optimizer == "Adam" || optimizer == "AdamW") return lr_scheduler::MomentumKind::betas;
  return optimizer == "Adagrad" ? lr_scheduler::MomentumKind::none : lr_scheduler::MomentumKind::momentum;
}

class MemoryWorld final : public World {
 public:
  MemoryWorld(const std::string& optimizer, std::vector<Value> groups)
      : groups_(std::make_shared<MemoryGroups>(momentum_of(optimizer), std::move(groups))) {}
  lr_scheduler::OptimizerRef optimizer() override { return std::shared_ptr<lr_scheduler::ParamGroups>(groups_); }
  std::vector<Value> groups() override { return groups_->groups(); }
  void load_groups(std::vector<Value> groups) override { groups_->load(std::move(groups)); }
  void add_group(Value group) override { groups_->add(std::move(group)); }

 private:
  std::shared_ptr<MemoryGroups> groups_;
};

}  // namespace
}  // namespace torchkeep::test

int main() {
  std::ios::sync_with_stdio(false);
  return torchkeep::test::run_peer(
      std::cin, std::cout, [](const std::string& optimizer, std::vector<torchkeep::Value> groups) {
        return std::make_unique<torchkeep::test::MemoryWorld>(optimizer, std::move(groups));
      });
}
