// SPDX-License-Identifier: BSD-3-Clause
// ResumableSampler: positions of an epoch dealt out to shards, and the count of those that were used.
#include <algorithm>
#include <deque>
#include <fmt/format.h>
#include <string>

#include <torchkeep/data/permutation.h>
#include <torchkeep/data/sampler.h>

namespace torchkeep {
namespace {

constexpr const char* kSequential = "sequential";

}  // namespace

struct ResumableSampler::State {
  std::uint64_t size;
  SamplerOptions options;
  std::uint64_t epoch = 0;
  Permutation order;
  std::uint64_t base = 0;           ///< position (of all shards) where counting began: 0, or where a load put it
  std::uint64_t drawn = 0;          ///< by this shard since `base`
  std::uint64_t used = 0;           ///< of those
  std::deque<std::size_t> pending;  ///< sizes of the batches drawn and not used yet, oldest first
  bool loaded = false;              ///< and nothing was drawn since
  bool ever_drawn = false;
  bool ever_used = false;

  State(std::uint64_t samples, const SamplerOptions& chosen)
      : size(samples), options(chosen), order(samples, chosen.seed, 0) {}

  /// Samples of this shard from `base` to the end of the epoch.
  std::uint64_t length() const noexcept {
    const std::uint64_t rest = size - std::min(base, size);
    return rest / options.shards + (!options.drop_uneven && rest % options.shards != 0);
  }
  std::size_t sample(std::uint64_t number) const {
    // Positions past the end are the first samples again, to fill up the last row.
    const std::uint64_t position = (base + options.shard + number * options.shards) % size;
    return static_cast<std::size_t>(options.shuffle ? order(position) : position);
  }
  void go_to(std::uint64_t new_epoch, std::uint64_t position) {
    epoch = new_epoch;
    order = Permutation(size, options.seed, epoch);
    base = position;
    drawn = used = 0;
    pending.clear();
  }
};

ResumableSampler::ResumableSampler(std::uint64_t size, const SamplerOptions& options) {
  if (options.shard >= options.shards) {
    throw Error(Code::invalid_argument, fmt::format("expected a shard below the number of shards, found shard {} of {}",
                                                    options.shard, options.shards));
  }
  state_ = std::make_shared<State>(size, options);
}

void ResumableSampler::reset() {
  State& state = *state_;
  const bool begun = state.drawn > 0 || state.length() == 0;
  if (begun && !state.loaded) {
    state.go_to(state.epoch + 1, 0);
  }
  state.loaded = false;
}

std::optional<std::vector<std::size_t>> ResumableSampler::next(std::size_t batch_size) {
  State& state = *state_;
  const std::uint64_t count = std::min<std::uint64_t>(batch_size, state.length() - state.drawn);
  if (count == 0) return std::nullopt;
  std::vector<std::size_t> samples(static_cast<std::size_t>(count));
  for (std::size_t i = 0; i < samples.size(); ++i) samples[i] = state.sample(state.drawn + i);
  state.drawn += count;
  state.pending.push_back(samples.size());
  state.loaded = false;
  state.ever_drawn = true;
  return samples;
}

void ResumableSampler::advance(std::uint64_t count) {
  State& state = *state_;
  if (count > state.drawn - state.used) {
    throw Error(Code::invalid_argument, fmt::format("{} samples cannot have been used: {} were drawn and not used yet",
                                                    count, state.drawn - state.used));
  }
  state.used += count;
  state.ever_used = state.ever_used || count > 0;
  while (count > 0) {
    const std::uint64_t part = std::min<std::uint64_t>(count, state.pending.front());
    state.pending.front() -= static_cast<std::size_t>(part);
    if (state.pending.front() == 0) state.pending.pop_front();
    count -= part;
  }
}

std::size_t ResumableSampler::advance_batch() {
  if (state_->pending.empty()) {
    throw Error(
        Code::invalid_argument,
        "a batch came that this sampler did not draw: begin the loop over the loader after the state was loaded, "
        "and use a loader made with this sampler");
  }
  const std::size_t count = state_->pending.front();
  advance(count);
  return count;
}

std::vector<std::size_t> ResumableSampler::take(std::size_t count) {
  auto samples = next(count);
  if (!samples) {
    state_->loaded = false;  // the loop knows now that this epoch is over: its reset() begins the next one
    return {};
  }
  advance(samples->size());
  return std::move(*samples);
}

std::uint64_t ResumableSampler::epoch() const noexcept {
  return state_->epoch;
}
std::uint64_t ResumableSampler::remaining() const noexcept {
  return state_->length() - state_->used;
}
std::uint64_t ResumableSampler::size() const noexcept {
  return state_->size;
}
bool ResumableSampler::is_unattended() const noexcept {
  return state_->ever_drawn && !state_->ever_used;
}

Value ResumableSampler::state_dict() const {
  const State& state = *state_;
  return {{"order", Value::string(std::string(state.options.shuffle ? Permutation::kName : kSequential))},
          {"size", state.size},
          {"seed", state.options.seed},
          {"epoch", state.epoch},
          {"position", state.base + state.used * state.options.shards}};
}

void ResumableSampler::load_state_dict(const Value& value) {
  State& state = *state_;
  const auto order = value["order"].to<std::string>();
  const auto size = value["size"].to<std::uint64_t>();
  const auto seed = value["seed"].to<std::uint64_t>();
  const auto epoch = value["epoch"].to<std::uint64_t>();
  const auto position = value["position"].to<std::uint64_t>();
  const std::string_view own_order = state.options.shuffle ? Permutation::kName : kSequential;
  std::string offenders;
  if (order != own_order) offenders += fmt::format("; order '{}' in the file, '{}' here", order, own_order);
  if (size != state.size) offenders += fmt::format("; {} samples in the file, {} here", size, state.size);
  if (!offenders.empty()) {
    value.fail(Code::mismatch, "the saved position is in another order of samples" + offenders);
  }
  state.options.seed = seed;
  state.go_to(epoch, position);
  state.loaded = true;
}

}  // namespace torchkeep
