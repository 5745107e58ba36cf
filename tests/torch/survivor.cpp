// SPDX-License-Identifier: BSD-3-Clause
// The program that kill_test kills: trains in a directory, and can kill itself at a chosen call to the file system.
//
//   survivor DIRECTORY BATCHES [KIND NUMBER WHEN]
//
// It dies at the NUMBER-th (from 1) of the calls that begin with KIND; WHEN is 0: before it is made, 1: when it is half
// made, 2: right after. Prints all its calls when it ends on its own.
#include <csignal>
#include <cstdlib>
#include <iostream>
#include <string>

#include <torch/torch.h>

#include "full_training.h"
#include "support/fault_fs.h"

namespace {

using torchkeep::testing::Fault;
using torchkeep::testing::FaultFs;

/// Ends the process as kill -9 does, around a chosen call.
class KillFs final : public FaultFs {
 public:
  KillFs(torchkeep::Fs& inner, const Fault& fault) : FaultFs(inner, fault) {}

 protected:
  [[noreturn]] void fail(const std::string&, const std::string&) const override {
    ::raise(SIGKILL);
    std::abort();  // not reached
  }
};

}  // namespace

int main(int argc, char** argv) {
  if (argc != 3 && argc != 6) {
    std::cerr << "usage: survivor DIRECTORY BATCHES [KIND NUMBER WHEN]\n";
    return 2;
  }
  torch::set_num_threads(1);
  torch::manual_seed(5);
  Fault kill;
  if (argc == 6) {
    kill = {.call = std::strtoull(argv[4], nullptr, 10),
            .error = 0,
            .and_ever_after = false,
            .when = static_cast<Fault::When>(std::atoi(argv[5])),
            .only = argv[3]};
  }
  KillFs fs(torchkeep::posix_fs(), kill);
  const torchkeep::RunOptions options{.save_every = 1,
                                      .keep_last = 2,
                                      .keep_every = 25,
                                      .keep_best = 1,
                                      .best_metric = "smoothed",
                                      .on_event = [](const torchkeep::Event&) {},
                                      .fs = &fs};
  const int code = torchkeep::testing::FullTraining().run(argv[1], options, std::atoll(argv[2]));
  for (const std::string& call : fs.calls()) std::cout << call << "\n";
  return code;
}
