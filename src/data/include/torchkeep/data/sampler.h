// SPDX-License-Identifier: BSD-3-Clause
// Which samples come next, and how to come back to that point: a sampler whose position is part of a checkpoint.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include <torchkeep/state/value.h>

namespace torchkeep {

/// How a ResumableSampler goes through the samples.
struct SamplerOptions {
  /// A new random order every epoch (see Permutation); false: 0, 1, 2 ...
  bool shuffle = true;
  /// Chooses the orders.
  std::uint64_t seed = 0;
  /// This worker's number among `shards` that share every epoch: it gets positions shard, shard + shards ...
  std::uint64_t shard = 0;
  std::uint64_t shards = 1;
  /// What to do when `shards` does not divide the samples. False: the first samples of the epoch are given once more,
  /// so that all shards are equally long and nothing is left out. True: the last samples are left out.
  bool drop_uneven = false;
};

/// Hands out sample numbers, and knows which of them the training loop has *used*: drawing ahead, as loaders with
/// worker threads do, does not move the saved position. A handle: copies refer to the same position, so the copy that a
/// loader moved away still counts here. For one loop at a time; not for use from several threads at once.
///
/// With LibTorch's DataLoader (needs <torchkeep/torch.h>):
///   auto loader = torch::data::make_data_loader(dataset, sampler, options);
///   for (auto& batch : tk::batches(*loader, sampler)) { ... }
/// In a plain loop:
///   auto indices = sampler.take(32); if (indices.empty()) { sampler.reset(); ... }
class ResumableSampler {
 public:
  /// The type LibTorch's DataLoader asks for.
  using BatchRequestType = std::vector<std::size_t>;

  /// Goes through `size` samples. Throws Error (invalid_argument) unless shard < shards.
  explicit ResumableSampler(std::uint64_t size, const SamplerOptions& options = {});

  /// Begins the next epoch. Stays in this one when nothing was drawn from it yet, and stays where load_state_dict put
  /// it: a loader resets its sampler before it begins. What was drawn but not used is forgotten.
  void reset();
  /// Draws up to `batch_size` samples of this epoch; nothing when it is over.
  std::optional<std::vector<std::size_t>> next(std::size_t batch_size);

  /// The loop used the next `count` samples that were drawn. Throws Error (invalid_argument) when fewer were drawn.
  void advance(std::uint64_t count);
  /// The loop used the batch that was drawn first; returns its size. Throws Error (invalid_argument) when none was
  /// drawn since the last reset or load.
  std::size_t advance_batch();
  /// Draws up to `count` samples and counts them as used; empty when the epoch is over. The reset() that follows then
  /// begins the next epoch, also where load_state_dict() put the position at an epoch's end.
  std::vector<std::size_t> take(std::size_t count);

  /// Number of the epoch, from 0.
  std::uint64_t epoch() const noexcept;
  /// Samples of this epoch that this shard has not used yet.
  std::uint64_t remaining() const noexcept;
  /// Samples in all shards together.
  std::uint64_t size() const noexcept;
  /// True when samples were drawn, but none was ever reported as used: the saved position would stand still.
  bool is_unattended() const noexcept;

  /// {"order", "size", "seed", "epoch", "position"}; position counts the used samples of all shards, which are
  /// taken to be equally far.
  Value state_dict() const;
  /// Continues where `state` was taken, with its seed; the number of shards may be another. Throws Error (mismatch)
  /// that lists what does not fit (another size, another kind of order); then nothing is changed.
  void load_state_dict(const Value& state);

 private:
  struct State;
  std::shared_ptr<State> state_;
};

}  // namespace torchkeep
