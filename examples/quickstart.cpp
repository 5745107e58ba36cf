// SPDX-License-Identifier: BSD-3-Clause
// The README's program: trains three epochs each time it is started, from where it stopped.
#include <filesystem>
#include <iostream>

#include <torch/torch.h>

#include <torchkeep/torch.h>

namespace tk = torchkeep;

int main() {
  torch::manual_seed(0);
  torch::nn::Linear model(4, 1);
  torch::optim::Adam optimizer(model->parameters(), torch::optim::AdamOptions(0.1));
  const torch::Tensor x = torch::randn({64, 4}), y = x.sum(1, true);
  int64_t epoch = 0;
  if (std::filesystem::exists("checkpoint.pt")) {
    const tk::Value checkpoint = tk::load("checkpoint.pt");
    tk::load_state_dict(*model, checkpoint["model_state_dict"]);
    tk::load_state_dict(optimizer, checkpoint["optimizer_state_dict"], *model);
    epoch = checkpoint["epoch"].to<int64_t>();
    std::cout << "resumed after epoch " << epoch << "\n";
  }
  for (const int64_t last = epoch + 3; epoch < last;) {
    optimizer.zero_grad();
    const torch::Tensor loss = torch::mse_loss(model->forward(x), y);
    loss.backward();
    optimizer.step();
    tk::save({{"epoch", ++epoch},
              {"model_state_dict", tk::state_dict(*model)},
              {"optimizer_state_dict", tk::state_dict(optimizer, *model)},
              {"loss", loss.item<double>()}},
             "checkpoint.pt");
    std::cout << "epoch " << epoch << ": loss " << loss.item<double>() << "\n";
  }
}
