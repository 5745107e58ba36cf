// SPDX-License-Identifier: BSD-3-Clause
// Example 2: a linear model with Adam and StepLR, ten epochs, saved with its scheduler, re-created, loaded, two more.
// Usage: example_2_scheduler [FILE [save|resume]]     (both, one after the other, when not said)
#include <iostream>
#include <string>

#include <torch/torch.h>

#include <torchkeep/torch.h>

namespace tk = torchkeep;
using tk::lr_scheduler::StepLR;

// Trains for some epochs on y = 3x + 2 and returns the last loss.
torch::Tensor train(torch::nn::Linear& model, torch::optim::Optimizer& optimizer, StepLR& scheduler,
                    int64_t first_epoch, int64_t epochs) {
  const torch::Tensor x = torch::linspace(-1, 1, 32).unsqueeze(1);
  const torch::Tensor y = 3 * x + 2;
  torch::Tensor loss;
  for (int64_t epoch = first_epoch; epoch < first_epoch + epochs; ++epoch) {
    optimizer.zero_grad();
    loss = torch::mse_loss(model->forward(x), y);
    loss.backward();
    optimizer.step();
    std::cout << "epoch " << epoch << ": lr " << scheduler.get_last_lr()[0] << ", loss " << loss.item<double>() << "\n";
    scheduler.step();
  }
  return loss;
}

void save(const std::string& path) {
  torch::manual_seed(0);
  torch::nn::Linear model(1, 1);
  torch::optim::Adam optimizer(model->parameters(), torch::optim::AdamOptions(0.1));
  StepLR scheduler(optimizer, {.step_size = 3, .gamma = 0.5});
  const torch::Tensor loss = train(model, optimizer, scheduler, 0, 10);
  tk::save({{"epoch", 10},
            {"model_state_dict", tk::state_dict(*model)},
            {"optimizer_state_dict", tk::state_dict(optimizer, *model)},
            {"scheduler_state_dict", tk::state_dict(scheduler)},
            {"loss", loss}},
           path);
  std::cout << "saved to " << path << "\n";
}

void resume(const std::string& path) {
  torch::nn::Linear model(1, 1);
  torch::optim::Adam optimizer(model->parameters(), torch::optim::AdamOptions(0.1));
  StepLR scheduler(optimizer, {.step_size = 3, .gamma = 0.5});
  const tk::Value checkpoint = tk::load(path);
  tk::load_state_dict(*model, checkpoint["model_state_dict"]);
  tk::load_state_dict(optimizer, checkpoint["optimizer_state_dict"], *model);
  tk::load_state_dict(scheduler, checkpoint["scheduler_state_dict"]);
  const auto epoch = checkpoint["epoch"].to<int64_t>();
  const auto loss = checkpoint["loss"].to<torch::Tensor>();
  std::cout << "resumed after epoch " << epoch << " with loss " << loss.item<double>() << "\n";
  train(model, optimizer, scheduler, epoch, 2);
}

int main(int argc, char** argv) {
  const std::string path = argc > 1 ? argv[1] : "checkpoint.pt";
  const std::string part = argc > 2 ? argv[2] : "save and resume";
  if (part != "resume") save(path);
  if (part != "save") resume(path);
}
