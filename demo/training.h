// SPDX-License-Identifier: BSD-3-Clause
// Everything that decides the next training step, and what of it a run keeps.
#pragma once

#include <cstdint>
#include <map>
#include <string>

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

enum class Resume { full, weights_only };

/// One training run in memory.
class Training {
 public:
  Training(const Text& text, int64_t steps, uint64_t seed);

  /// Adds everything to the checkpoints of `run`. With Resume::weights_only the optimizer, the scheduler and the data
  /// position are saved, but start anew in every process, as in programs that bring back a model alone.
  void track(torchkeep::Run& run, Resume what);
  /// One forward, backward and optimizer step; returns the loss.
  double do_step(torchkeep::Run& run);
  /// The loss on the held-out text, without dropout; changes nothing.
  double held_out_loss();

  Gpt& model() { return model_; }

 private:
  Gpt model_;
  std::map<std::string, int64_t> model_options_;  // so that Python can build the same model
  Batches batches_;
  torch::optim::AdamW optimizer_;
  torchkeep::lr_scheduler::SequentialLR scheduler_;  // linear warm-up, then half a cosine down to a tenth
};

}  // namespace demo
