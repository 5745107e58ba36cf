// SPDX-License-Identifier: BSD-3-Clause
// A loop over a DataLoader that tells its ResumableSampler which batches the loop took.
#pragma once

#include <memory>
#include <optional>
#include <utility>

#include <torch/data/iterator.h>

#include <torchkeep/data/sampler.h>

namespace torchkeep {

/// See batches().
template <class Loader>
class Batches {
 public:
  using Batch = typename Loader::BatchType;

  /// An input iterator. The sampler is told of a batch when it arrives here, which is before the loop's body runs.
  class Iterator {
   public:
    Iterator(torch::data::Iterator<Batch> at, torch::data::Iterator<Batch> end, ResumableSampler sampler)
        : at_(std::move(at)), end_(std::move(end)), sampler_(std::move(sampler)) {
      arrive();
    }
    Batch& operator*() { return *at_; }
    Batch* operator->() { return &*at_; }
    Iterator& operator++() {
      ++at_;
      arrive();
      return *this;
    }
    bool operator==(std::default_sentinel_t) const { return done_; }

   private:
    void arrive() {
      done_ = at_ == end_;
      if (!done_) sampler_.advance_batch();
    }

    torch::data::Iterator<Batch> at_;
    torch::data::Iterator<Batch> end_;
    ResumableSampler sampler_;
    bool done_ = false;
  };

  Batches(Loader& loader, ResumableSampler sampler) : loader_(&loader), sampler_(std::move(sampler)) {
    if (!loader.options().enforce_ordering && loader.options().workers > 1) {
      throw Error(Code::invalid_argument,
                  "a loader with several workers and without enforce_ordering gives batches in no fixed order, so no "
                  "position can be saved; set DataLoaderOptions().enforce_ordering(true), its default");
    }
    if (loader.options().workers == 0 && loader.options().max_jobs > 0) {
      throw Error(Code::invalid_argument,
                  "LibTorch loses the batches that a loader without workers draws ahead; leave "
                  "DataLoaderOptions().max_jobs unset, or set workers");
    }
  }
  /// Starts an epoch, or continues the one that was loaded.
  Iterator begin() { return Iterator(loader_->begin(), loader_->end(), sampler_); }
  std::default_sentinel_t end() const noexcept { return {}; }

 private:
  Loader* loader_;
  ResumableSampler sampler_;
};

/// The batches of one epoch:
///   for (auto& batch : tk::batches(*loader, sampler)) { ... run.finish_step(++step); if (run.stopping()) break; }
/// A batch counts as used from the moment the loop has it, however many the loader drew ahead: save (or call
/// finish_step) after it was trained on, and leave the loop there. `sampler` is the one that `loader` was made with.
/// Throws Error (invalid_argument) for a loader that does not keep the order of its batches or loses some, and, when a
/// batch comes, for one that was made with another sampler or begun before the sampler's state was loaded.
template <class Loader>
requires requires(Loader& loader) {
  loader.options().enforce_ordering;
}
Batches<Loader> batches(Loader& loader, ResumableSampler sampler) {
  return Batches<Loader>(loader, std::move(sampler));
}
template <class Loader>
Batches<Loader> batches(const std::unique_ptr<Loader>& loader, ResumableSampler sampler) {
  return Batches<Loader>(*loader, std::move(sampler));
}

}  // namespace torchkeep
