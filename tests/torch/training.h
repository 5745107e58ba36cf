// SPDX-License-Identifier: BSD-3-Clause
// A small model and its training, the same every time.
#pragma once

#include <string>

#include <torch/torch.h>

#include <torchkeep/torch.h>

namespace torchkeep {

/// Two layers; the second can be frozen, and gets no gradient in the first half.
struct SmallNetImpl : torch::nn::Module {
  explicit SmallNetImpl(int out = 2) {
    first = register_module("first", torch::nn::Linear(3, 4));
    second = register_module("second", torch::nn::Linear(4, out));
  }
  at::Tensor forward(const at::Tensor& x) { return second(torch::tanh(first(x))); }
  torch::nn::Linear first{nullptr}, second{nullptr};
};
TORCH_MODULE(SmallNet);

inline SmallNet make_net(int seed = 1) {
  torch::manual_seed(seed);
  return SmallNet();
}

/// `steps` steps on data drawn from `seed`.
inline void train(SmallNet& net, torch::optim::Optimizer& optimizer, int steps, int seed = 7) {
  const at::Generator generator = at::make_generator<at::CPUGeneratorImpl>(seed);
  for (int i = 0; i < steps; ++i) {
    const at::Tensor x = torch::randn({5, 3}, generator);
    const auto closure = [&] {
      optimizer.zero_grad();
      at::Tensor loss = net(x).square().mean();
      loss.backward();
      return loss;
    };
    optimizer.step(closure);
  }
}

}  // namespace torchkeep
