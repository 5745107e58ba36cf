// SPDX-License-Identifier: BSD-3-Clause
// A training run without LibTorch: a few numbers that every step changes in a way that only its whole past explains.
#pragma once

#include <cstdint>
#include <cstring>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include <torchkeep/run/engine.h>
#include <torchkeep/state/value.h>
#include <torchkeep/state/watched.h>

namespace torchkeep::testing {

/// Numbers that are changed in place, as a storage sees them.
struct LiveNumbers {
  std::vector<std::int64_t> numbers;
  std::uint64_t version = 0;

  class Memory final : public WatchedStorage {
   public:
    explicit Memory(const LiveNumbers& live) : live_(live) {}
    std::uint64_t nbytes() const noexcept override { return live_.numbers.size() * sizeof(std::int64_t); }
    const std::byte* data() const noexcept override { return std::as_bytes(std::span(live_.numbers)).data(); }
    const void* identity() const noexcept override { return &live_; }
    void read(std::uint64_t offset, MutableBytes out) const override {
      std::memcpy(out.data(), data() + offset, out.size());
    }
    Mark mark() const override { return {live_.version, data(), nbytes()}; }

   private:
    const LiveNumbers& live_;
  };

  Value tensor() const {
    Tensor leaf;
    leaf.dtype = DType::int64;
    leaf.sizes = {static_cast<std::int64_t>(numbers.size())};
    leaf.strides = {1};
    leaf.storage = std::make_shared<Memory>(*this);
    return leaf;
  }
};

/// The state of a fake training after some steps. Its numbers are live memory that changes in step() only.
class FakeTraining {
 public:
  explicit FakeTraining(std::size_t elements = 16)
      : weights_live_{std::vector<std::int64_t>(elements, 1)}, momentum_live_{std::vector<std::int64_t>(elements, 0)} {}

  LiveNumbers& weights() { return weights_live_; }
  LiveNumbers& momentum() { return momentum_live_; }

  void step() {
    ++weights_live_.version;
    ++momentum_live_.version;
    for (std::size_t i = 0; i < weights_.size(); ++i) {
      momentum_[i] = add(add(momentum_[i] / 3, weights_[i]), draw());
      weights_[i] = add(weights_[i], momentum_[i] / 7);
    }
  }

  /// Tracks "model", "optimizer" and "rng"; this object must outlive the engine.
  void track(Engine& engine) {
    engine.track("model", tracked(weights_live_));
    Tracked optimizer = tracked(momentum_live_);
    optimizer.gated = [this] { return std::vector<const void*>{&weights_live_}; };
    engine.track("optimizer", std::move(optimizer));
    engine.track("rng", {.capture = [this] { return Value(random_); },
                         .prepare = [this](const Value& state) -> std::function<void()> {
                           const auto loaded = state.to<std::uint64_t>();
                           return [this, loaded] { random_ = loaded; };
                         }});
  }

  /// All of it as one Value; equal for equal trainings only.
  Value state() const { return {{"model", tensor(weights_)}, {"optimizer", tensor(momentum_)}, {"rng", random_}}; }

  /// The state after `steps` steps from the beginning.
  static Value after(std::int64_t steps, std::size_t elements = 16) {
    FakeTraining training(elements);
    for (std::int64_t i = 0; i < steps; ++i) training.step();
    return training.state();
  }

 private:
  static Value tensor(const std::vector<std::int64_t>& numbers) {
    return Tensor::of<std::int64_t>({static_cast<std::int64_t>(numbers.size())}, numbers);
  }
  static Tracked tracked(LiveNumbers& live) {
    return {.capture = [&live] { return live.tensor(); },
            .prepare = [&live](const Value& state) -> std::function<void()> {
              auto loaded = state.as_tensor().to_vector<std::int64_t>();
              if (loaded.size() != live.numbers.size()) state.fail(Code::mismatch, "another number of elements");
              return [&live, loaded] {
                live.numbers = loaded;
                ++live.version;
              };
            }};
  }
  /// Wraps around, so that a long training is no overflow.
  static std::int64_t add(std::int64_t a, std::int64_t b) {
    return static_cast<std::int64_t>(static_cast<std::uint64_t>(a) + static_cast<std::uint64_t>(b));
  }
  std::int64_t draw() {
    random_ = random_ * 6364136223846793005U + 1442695040888963407U;
    return static_cast<std::int64_t>(random_ >> 40);
  }

  LiveNumbers weights_live_;
  LiveNumbers momentum_live_;
  std::vector<std::int64_t>& weights_ = weights_live_.numbers;
  std::vector<std::int64_t>& momentum_ = momentum_live_.numbers;
  std::uint64_t random_ = 42;
};

/// Collects events.
struct EventLog {
  std::vector<Event> events;

  std::function<void(const Event&)> listener() {
    return [this](const Event& event) { events.push_back(event); };
  }
  std::size_t count(Event::Kind kind) const {
    std::size_t number = 0;
    for (const Event& event : events) number += event.kind == kind;
    return number;
  }
  /// The messages of one kind, one a line.
  std::string text(Event::Kind kind) const {
    std::string text;
    for (const Event& event : events) {
      if (event.kind == kind) text += event.message + "\n";
    }
    return text;
  }
  std::string warnings() const {
    std::string text;
    for (const Event& event : events) {
      if (event.is_warning()) text += event.message + "\n";
    }
    return text;
  }
};

/// An engine over a fake training, resumed: what a process of a run is.
struct FakeRun {
  EventLog log;
  FakeTraining training;
  bool waits = true;  ///< for every save, so that what happens is always the same
  Engine engine;

  FakeRun(Fs& fs, RunOptions options, const std::string& directory = "/run", std::size_t elements = 16)
      : training(elements), engine(directory, with(fs, options)) {
    training.track(engine);
    engine.resume();
  }
  /// Steps until `last`, or until the engine says to stop. Every step has a loss of 1 / step.
  void train(std::int64_t last) {
    for (std::int64_t step = engine.step(); step < last && !engine.stopping();) {
      engine.gate("optimizer");
      training.step();
      ++step;
      engine.finish_step(step, Value{{"loss", 1.0 / static_cast<double>(step)}});
      if (waits) engine.wait();
    }
  }

 private:
  RunOptions with(Fs& fs, RunOptions options) {
    options.fs = &fs;
    options.on_event = log.listener();
    return options;
  }
};

}  // namespace torchkeep::testing
