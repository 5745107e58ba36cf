// SPDX-License-Identifier: BSD-3-Clause
// Example 3: a model of two parts with Adam on part 1 and SGD on part 2, each optimizer's state under its own key.
// Usage: example_3_two_optimizers [FILE [save|resume]]     (both, one after the other, when not said)
#include <iostream>
#include <string>

#include <torch/torch.h>

#include <torchkeep/torch.h>

namespace tk = torchkeep;

struct TwoPartsImpl : torch::nn::Module {
  torch::nn::Linear part1{nullptr}, part2{nullptr};
  TwoPartsImpl() {
    part1 = register_module("part1", torch::nn::Linear(2, 8));
    part2 = register_module("part2", torch::nn::Linear(8, 1));
  }
  torch::Tensor forward(const torch::Tensor& x) { return part2->forward(torch::tanh(part1->forward(x))); }
};
TORCH_MODULE(TwoParts);

// The model with an optimizer for each part.
struct Training {
  TwoParts model;
  torch::optim::Adam optimizer1{model->part1->parameters(), torch::optim::AdamOptions(0.02)};
  torch::optim::SGD optimizer2{model->part2->parameters(), torch::optim::SGDOptions(0.1).momentum(0.9)};

  void epochs(int64_t first, int64_t count) {
    const torch::Tensor side = torch::linspace(-1, 1, 8);
    const torch::Tensor x = torch::cartesian_prod({side, side});
    const torch::Tensor y = (x.select(1, 0) * x.select(1, 1)).unsqueeze(1);
    for (int64_t epoch = first; epoch < first + count; ++epoch) {
      optimizer1.zero_grad();
      optimizer2.zero_grad();
      const torch::Tensor loss = torch::mse_loss(model->forward(x), y);
      loss.backward();
      optimizer1.step();
      optimizer2.step();
      std::cout << "epoch " << epoch << ": loss " << loss.item<double>() << "\n";
    }
  }
};

void save(const std::string& path) {
  torch::manual_seed(0);
  Training training;
  training.epochs(0, 5);
  tk::save({{"epoch", 5},
            {"model_state_dict", tk::state_dict(*training.model)},
            {"optimizer1_state_dict", tk::state_dict(training.optimizer1, *training.model)},
            {"optimizer2_state_dict", tk::state_dict(training.optimizer2, *training.model)}},
           path);
  std::cout << "saved to " << path << "\n";
}

void resume(const std::string& path) {
  Training training;
  const tk::Value checkpoint = tk::load(path);
  tk::load_state_dict(*training.model, checkpoint["model_state_dict"]);
  tk::load_state_dict(training.optimizer1, checkpoint["optimizer1_state_dict"], *training.model);
  tk::load_state_dict(training.optimizer2, checkpoint["optimizer2_state_dict"], *training.model);
  const auto epoch = checkpoint["epoch"].to<int64_t>();
  std::cout << "resumed after epoch " << epoch << "\n";
  training.epochs(epoch, 5);
}

int main(int argc, char** argv) {
  const std::string path = argc > 1 ? argv[1] : "checkpoint.pt";
  const std::string part = argc > 2 ? argv[2] : "save and resume";
  if (part != "resume") save(path);
  if (part != "save") resume(path);
}
