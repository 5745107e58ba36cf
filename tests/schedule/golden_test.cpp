// SPDX-License-Identifier: BSD-3-Clause
// Learning rates of PyTorch 2.13 as fingerprints of their bits (golden.py makes the table), for machines without
// PyTorch and for hostile/, where all of this is compiled with flags that change arithmetic.
#include <bit>
#include <functional>
#include <gtest/gtest.h>
#include <string>
#include <vector>

#include <torchkeep/schedule/lr_scheduler.h>

#include "memory_groups.h"

namespace torchkeep::lr_scheduler {
namespace {

struct Golden {
  const char* name;
  double lr;
  std::function<LRScheduler(const OptimizerRef&)> make;
  std::uint64_t fingerprint;
};

const std::vector<Golden>& table() {
  static const std::vector<Golden> all = {
      {"cosine", 0.1, [](auto& o) { return CosineAnnealingLR(o, {.T_max = 33, .eta_min = 0.007}); },
       0x5ecc1087ad20ae13},
      {"linear", 0.3,
       [](auto& o) { return LinearLR(o, {.start_factor = 1.0 / 7, .end_factor = 0.9, .total_iters = 40}); },
       0x25243b5d9c8a58ac},
      {"polynomial", 0.1, [](auto& o) { return PolynomialLR(o, {.total_iters = 70, .power = 1.7}); },
       0x0636205db6b23341},
      {"restarts", 0.1,
       [](auto& o) { return CosineAnnealingWarmRestarts(o, {.T_0 = 7, .T_mult = 2, .eta_min = 0.003}); },
       0x7b65df14cfdcc077},
      {"exp_range", 0.1,
       [](auto& o) {
         return CyclicLR(o, {.base_lr = 0.013, .max_lr = 0.11, .step_size_up = 9, .mode = "exp_range", .gamma = 0.993});
       },
       0x8c12b758e59f6175},
      {"triangular2", 0.1,
       [](auto& o) {
         return CyclicLR(
             o, {.base_lr = 0.013, .max_lr = 0.11, .step_size_up = 7, .step_size_down = 3, .mode = "triangular2"});
       },
       0xcdc771c0e790a102},
      {"one_cycle", 0.1, [](auto& o) { return OneCycleLR(o, {.max_lr = 0.17, .total_steps = 61}); },
       0x3b6f27c4b7a25b58},
      {"one_cycle_linear", 0.1,
       [](auto& o) {
         return OneCycleLR(o, {.max_lr = 0.17, .total_steps = 61, .anneal_strategy = "linear", .three_phase = true});
       },
       0x21962b568dd95fb3},
      {"swa", 0.1, [](auto& o) { return SWALR(o, {.swa_lr = 0.037, .anneal_epochs = 23}); }, 0x0920f1f21e1aaa5c},
      {"denormal", 3e-310, [](auto& o) { return ExponentialLR(o, {.gamma = 0.7}); }, 0xc1ce33ba21c023e9},
      {"sequential", 0.1,
       [](auto& o) {
         return SequentialLR(o, {.schedulers = {LinearLR(o, {.start_factor = 0.013, .total_iters = 11}),
                                                CosineAnnealingLR(o, {.T_max = 50, .eta_min = 0.001})},
                                 .milestones = {11}});
       },
       0x268389c3105753e4},
  };
  return all;
}

// FNV-1a over the bits of the learning rate and the momentum after construction and after each of 60 steps.
std::uint64_t fingerprint(const Golden& golden) {
  const auto groups = std::make_shared<test::MemoryGroups>(MomentumKind::momentum,
                                                           std::vector<Value>{{{"lr", golden.lr}, {"momentum", 0.9}}});
  std::uint64_t hash = 0xcbf29ce484222325;
  const auto add = [&](const char* key) {
    hash = (hash ^ std::bit_cast<std::uint64_t>(groups->get(0, key)->to_double())) * 0x100000001b3;
  };
  LRScheduler scheduler = golden.make(OptimizerRef(std::shared_ptr<ParamGroups>(groups)));
  for (int i = 0; i <= 60; ++i) {
    if (i > 0) scheduler.step();
    add("lr");
    add("momentum");
  }
  return hash;
}

TEST(Golden, EveryBitIsPyTorchs) {
#ifndef __GLIBC__
  GTEST_SKIP() << "the table was made with the cos and pow of glibc; another libm may differ in the last bit";
#endif
  for (const Golden& golden : table()) EXPECT_EQ(fingerprint(golden), golden.fingerprint) << golden.name;
}

}  // namespace
}  // namespace torchkeep::lr_scheduler
