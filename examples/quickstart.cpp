// SPDX-License-Identifier: BSD-3-Clause
// The README's program: a training that continues where it was, however it ended.
#include <csignal>
#include <cstdlib>
#include <iomanip>
#include <iostream>

#include <torch/torch.h>

#include <torchkeep/torch.h>

namespace tk = torchkeep;

int main(int argc, char** argv) {
  const int64_t crash_at = argc > 1 ? std::atoll(argv[1]) : 0;
  torch::manual_seed(0);
  torch::nn::Linear model(4, 1);
  torch::optim::Adam adam(model->parameters(), torch::optim::AdamOptions(0.3));
  tk::lr_scheduler::CosineAnnealingLR cosine(adam, {.T_max = 6});
  const torch::Tensor x = torch::randn({64, 4}), y = x.sum(1, true);

  auto run = tk::Run::open("runs/line", {.save_every = 2, .background = false});
  run.track("model", model);
  run.track("optimizer", adam);
  run.track("scheduler", cosine);
  for (int64_t step = run.resume(); step < 6 && !run.stopping();) {
    adam.zero_grad();
    const torch::Tensor loss = torch::mse_loss(model->forward(x), y);
    loss.backward();
    run.step(adam);
    cosine.step();
    run.finish_step(++step, {{"loss", loss.item<double>()}});
    std::cout << std::setprecision(4) << "step " << step << ": loss " << loss.item<double>() << std::endl;
    if (step == crash_at) std::raise(SIGKILL);
  }
  run.finish();
  return run.exit_code();
}
