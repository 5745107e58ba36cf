// SPDX-License-Identifier: BSD-3-Clause
// Everything that decides the next training step, and the checkpoints it is kept in.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include <torch/torch.h>

#include <torchkeep/torch.h>

#include "gpt.h"
#include "text.h"

namespace demo {

/// Draws batches of windows from the first nine tenths of the text, at places that a generator of its own chooses.
/// Its position is the generator's state; it takes part in a checkpoint by being Stateful.
class Batches {
 public:
  struct Batch {
    torch::Tensor inputs, targets;  ///< (size, context) of int64; targets are inputs moved on by one
  };

  Batches(const Text& text, int64_t size, int64_t context, uint64_t seed);
  Batch next();
  /// 32 windows spread evenly over the last tenth of the text, which next() never shows.
  Batch held_out() const;

  torchkeep::Value state_dict() const;
  /// Throws Error(mismatch) when the state belongs to another text.
  void load_state_dict(const torchkeep::Value& state);

 private:
  Batch windows_at(const torch::Tensor& starts) const;

  torch::Tensor tokens_;
  uint32_t text_crc32_;
  int64_t size_, context_;
  int64_t learnt_;  // tokens that next() draws from
  mutable at::Generator generator_;
};

/// One training run in memory.
struct Training {
  Training(const Text& text, int64_t steps, uint64_t seed);

  /// One forward, backward and optimizer step; returns the loss.
  double do_step();
  /// The loss on the held-out text, without dropout; changes nothing.
  double held_out_loss();

  Gpt model;
  Batches batches;
  torch::optim::AdamW optimizer;
  torchkeep::lr_scheduler::SequentialLR scheduler;  ///< linear warm-up, then half a cosine down to a tenth
  int64_t step = 0;
};

enum class Resume { full, weights_only };

struct Resumed {
  std::filesystem::path file;        ///< the checkpoint that was used; empty for a fresh start
  std::vector<std::string> refused;  ///< newer ones that were damaged, each with its reason
  std::size_t removed = 0;           ///< unfinished files that a killed process had left, now deleted
};

std::filesystem::path checkpoint_path(const std::filesystem::path& directory, int64_t step);

/// Saves everything as `directory`/step-00000042.pt, then removes all but the newest three checkpoints.
void save_checkpoint(const Training& training, const std::filesystem::path& directory);

/// Brings `training` back to the newest checkpoint of `directory` that is whole. With Resume::weights_only the
/// optimizer, the scheduler, the random generators and the data position start anew, as in programs that save a model
/// alone.
/// Throws Error when there are checkpoints but all are damaged.
Resumed resume(Training& training, const std::filesystem::path& directory, Resume what);

}  // namespace demo
