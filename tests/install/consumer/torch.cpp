// SPDX-License-Identifier: BSD-3-Clause
// A user of the adapter: saves one module, loads it into another, and prints whether they are the same.
#include <iostream>

#include <torch/torch.h>

#include <torchkeep/torch.h>
#include <torchkeep/torchkeep.h>

int main(int, char** arguments) {
  torch::nn::Linear first(3, 2);
  torch::nn::Linear second(3, 2);
  torchkeep::save({{"model_state_dict", torchkeep::state_dict(*first)}}, arguments[1]);
  torchkeep::load_state_dict(*second, torchkeep::load(arguments[1])["model_state_dict"]);
  std::cout << (torch::equal(first->weight, second->weight) ? "equal" : "different") << "\n";
}
