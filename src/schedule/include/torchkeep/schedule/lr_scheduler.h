// SPDX-License-Identifier: BSD-3-Clause
// The learning rate schedulers of torch.optim.lr_scheduler (PyTorch 2.13) and SWALR: the same arguments, the same
// learning rates bit for bit, the same state dicts.
#pragma once

#include <concepts>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <torchkeep/schedule/groups.h>
#include <torchkeep/schedule/options.h>

namespace torchkeep::lr_scheduler {

namespace detail {
class Schedule;
}

/// An argument of a constructor that differs from the one in the loaded state dict.
struct ArgumentDifference {
  std::string key;     ///< "gamma", "_schedulers[1].T_max", "param_groups[0].max_lr"
  std::string given;   ///< what the constructor was given, as Python prints it
  std::string stored;  ///< what the state dict holds
};

struct SchedulerLoadOptions {
  /// False: hyperparameters come from the state dict, as in Python. True: those given to the constructor stay, only
  /// the position in the schedule is loaded.
  bool keep_arguments = false;
};

/// What all schedulers can do. A handle: copies refer to the same scheduler, which lives as long as one of them does.
/// The optimizer must outlive it. Not for use from several threads at once.
class Scheduler {
 public:
  /// Python's state_dict(): same keys, same order, same types.
  Value state_dict() const;

  /// Python's load_state_dict(). Checks everything first and then changes the scheduler, or throws Error (mismatch)
  /// that lists all that does not fit. Returns the arguments that differ from the stored ones; `options` says which of
  /// the two are used from here on.
  ///
  /// May come before or after the optimizer's state is loaded: what the constructor of a scheduler wrote over loaded
  /// learning rates is put back. If the optimizer's state is never loaded, its learning rates are set to the stored
  /// get_last_lr() (Python leaves the ones of the constructor).
  std::vector<ArgumentDifference> load_state_dict(const Value& state, const SchedulerLoadOptions& options = {});

  /// PyTorch's name of the class: "StepLR".
  const std::string& class_name() const noexcept;
  /// The learning rate of each group after the last step.
  std::vector<double> get_last_lr() const;
  /// Number of the last step, 0 after construction.
  std::int64_t last_epoch() const noexcept;

 protected:
  explicit Scheduler(std::shared_ptr<detail::Schedule> schedule) noexcept : schedule_(std::move(schedule)) {}
  friend struct SchedulerAccess;
  std::shared_ptr<detail::Schedule> schedule_;
};

/// The schedulers that step without a metric; what SequentialLR and ChainedScheduler combine.
class LRScheduler : public Scheduler {
 public:
  /// To be called after the optimizer's step().
  void step();
  /// Jumps to `epoch` by the closed form where the class has one, as Python's deprecated step(epoch).
  /// Throws invalid_argument for SequentialLR and ChainedScheduler, which have none.
  void step(std::int64_t epoch);
  /// Only CosineAnnealingWarmRestarts itself has fractional epochs; here they would be cut off.
  template <std::floating_point E>
  void step(E epoch) = delete;

 protected:
  using Scheduler::Scheduler;
};

// Constructors throw Error (invalid_argument) with PyTorch's words for arguments that PyTorch refuses.

class LambdaLR : public LRScheduler {
 public:
  LambdaLR(OptimizerRef optimizer, LambdaLROptions options);
};

class MultiplicativeLR : public LRScheduler {
 public:
  MultiplicativeLR(OptimizerRef optimizer, MultiplicativeLROptions options);
};

class StepLR : public LRScheduler {
 public:
  StepLR(OptimizerRef optimizer, StepLROptions options);
};

class MultiStepLR : public LRScheduler {
 public:
  MultiStepLR(OptimizerRef optimizer, MultiStepLROptions options);
};

class ConstantLR : public LRScheduler {
 public:
  explicit ConstantLR(OptimizerRef optimizer, ConstantLROptions options = {});
};

class LinearLR : public LRScheduler {
 public:
  explicit LinearLR(OptimizerRef optimizer, LinearLROptions options = {});
};

class ExponentialLR : public LRScheduler {
 public:
  ExponentialLR(OptimizerRef optimizer, ExponentialLROptions options);
};

class PolynomialLR : public LRScheduler {
 public:
  explicit PolynomialLR(OptimizerRef optimizer, PolynomialLROptions options = {});
};

class CosineAnnealingLR : public LRScheduler {
 public:
  CosineAnnealingLR(OptimizerRef optimizer, CosineAnnealingLROptions options);
};

class CosineAnnealingWarmRestarts : public LRScheduler {
 public:
  CosineAnnealingWarmRestarts(OptimizerRef optimizer, CosineAnnealingWarmRestartsOptions options);
  using LRScheduler::step;
  /// A fractional epoch, as in step(epoch + i / iterations).
  template <std::floating_point E>
  void step(E epoch) {
    step_to(static_cast<double>(epoch));
  }

 private:
  void step_to(double epoch);
};

class CyclicLR : public LRScheduler {
 public:
  CyclicLR(OptimizerRef optimizer, CyclicLROptions options);
};

class OneCycleLR : public LRScheduler {
 public:
  OneCycleLR(OptimizerRef optimizer, OneCycleLROptions options);
};

class SWALR : public LRScheduler {
 public:
  SWALR(OptimizerRef optimizer, SWALROptions options);
};

/// The schedulers run one after another; `milestones` holds the steps at which the next one takes over.
struct SequentialLROptions {
  std::vector<LRScheduler> schedulers;
  NumberList milestones;
  std::int64_t last_epoch = -1;
};

class SequentialLR : public LRScheduler {
 public:
  SequentialLR(OptimizerRef optimizer, SequentialLROptions options);
};

/// All schedulers step at once, in order. Like Python's, it takes the optimizer of the first one unless one is given.
class ChainedScheduler : public LRScheduler {
 public:
  explicit ChainedScheduler(std::vector<LRScheduler> schedulers, std::optional<OptimizerRef> optimizer = std::nullopt);
};

/// Lowers the learning rate when a metric stops improving. No LRScheduler: its step() needs the metric.
class ReduceLROnPlateau : public Scheduler {
 public:
  explicit ReduceLROnPlateau(OptimizerRef optimizer, ReduceLROnPlateauOptions options = {});
  void step(double metrics);
  void step(double metrics, std::int64_t epoch);
};

template <class S>
concept IsScheduler = Stateful<S> && std::derived_from<S, Scheduler>;

}  // namespace torchkeep::lr_scheduler

namespace torchkeep {

/// Scheduler::load_state_dict, which also returns something.
template <lr_scheduler::IsScheduler S>
std::vector<lr_scheduler::ArgumentDifference> load_state_dict(S& scheduler, const Value& state) {
  return scheduler.load_state_dict(state);
}
template <lr_scheduler::IsScheduler S>
std::vector<lr_scheduler::ArgumentDifference> load_state_dict(S& scheduler, const Value& state,
                                                              const lr_scheduler::SchedulerLoadOptions& options) {
  return scheduler.load_state_dict(state, options);
}

}  // namespace torchkeep
