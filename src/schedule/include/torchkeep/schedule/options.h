// SPDX-License-Identifier: BSD-3-Clause
// The arguments of the schedulers: Python's names, order and defaults (torch.optim.lr_scheduler of PyTorch 2.13).
#pragma once

#include <concepts>
#include <cstdint>
#include <functional>
#include <initializer_list>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <torchkeep/schedule/groups.h>
#include <torchkeep/schedule/number.h>

namespace torchkeep::lr_scheduler {

// A member without "=" is an argument without a default: its type has no default constructor, so that leaving it out
// does not compile.

/// A list of numbers.
class NumberList {
 public:
  NumberList() = delete;
  NumberList(std::initializer_list<Number> values) : values_(values) {}  // NOLINT: implicit
  NumberList(Numbers values) : values_(std::move(values)) {}             // NOLINT: implicit
  template <class T>
  requires std::convertible_to<T, Number> NumberList(const std::vector<T>& values)
      : values_(values.begin(), values.end()) {}  // NOLINT: implicit
  const Numbers& values() const noexcept { return values_; }

 private:
  Numbers values_;
};

/// One number for all groups, or a list with one per group.
class PerGroup {
 public:
  PerGroup() = delete;
  template <class T>
  requires std::convertible_to<T, Number> PerGroup(const T& value) : values_{Number(value)} {}  // NOLINT: implicit
  PerGroup(std::initializer_list<Number> values) : values_(values), is_list_(true) {}           // NOLINT: implicit
  PerGroup(Numbers values) : values_(std::move(values)), is_list_(true) {}                      // NOLINT: implicit
  PerGroup(const std::vector<double>& values) : values_(values.begin(), values.end()), is_list_(true) {}  // NOLINT
  bool is_list() const noexcept { return is_list_; }
  const Numbers& values() const noexcept { return values_; }

 private:
  Numbers values_;
  bool is_list_ = false;
};

/// A function from an epoch (or a cycle number) to a factor. Returns int or double; which of the two is kept as Python
/// keeps it. A callable object with state_dict() and load_state_dict(value) is saved with the scheduler, as Python
/// saves the attributes of a callable object; a plain function or lambda is not.
class LrLambda {
 public:
  template <class F>
  requires(!std::same_as<std::remove_cvref_t<F>, LrLambda> && std::invocable<F&, std::int64_t> &&
           std::convertible_to<std::invoke_result_t<F&, std::int64_t>, Number>)
      LrLambda(F function) {  // NOLINT: implicit
    auto shared = std::make_shared<F>(std::move(function));
    call_ = [shared](std::int64_t x) { return Number((*shared)(x)); };
    if constexpr (Stateful<F>) {
      state_dict_ = [shared] { return Value(shared->state_dict()); };
      load_state_dict_ = [shared](const Value& state) { shared->load_state_dict(state); };
    }
  }

  Number operator()(std::int64_t x) const { return call_(x); }
  bool has_state() const noexcept { return static_cast<bool>(state_dict_); }
  Value state_dict() const { return state_dict_(); }
  void load_state_dict(const Value& state) const { load_state_dict_(state); }

 private:
  std::function<Number(std::int64_t)> call_;
  std::function<Value()> state_dict_;
  std::function<void(const Value&)> load_state_dict_;
};

/// One function for all groups, or a list with one per group.
class LrLambdas {
 public:
  LrLambdas() = delete;
  template <class F>
  requires std::convertible_to<F, LrLambda> LrLambdas(F function)
      : functions_{LrLambda(std::move(function))} {}                                                // NOLINT: implicit
  LrLambdas(std::initializer_list<LrLambda> functions) : functions_(functions), is_list_(true) {}   // NOLINT: implicit
  LrLambdas(std::vector<LrLambda> functions) : functions_(std::move(functions)), is_list_(true) {}  // NOLINT: implicit
  bool is_list() const noexcept { return is_list_; }
  const std::vector<LrLambda>& functions() const noexcept { return functions_; }

 private:
  std::vector<LrLambda> functions_;
  bool is_list_ = false;
};

/// lr = initial_lr * lr_lambda(epoch).
struct LambdaLROptions {
  LrLambdas lr_lambda;
  std::int64_t last_epoch = -1;
};

/// lr = lr * lr_lambda(epoch).
struct MultiplicativeLROptions {
  LrLambdas lr_lambda;
  std::int64_t last_epoch = -1;
};

/// lr = lr * gamma every step_size steps.
struct StepLROptions {
  Number step_size;
  Number gamma = 0.1;
  std::int64_t last_epoch = -1;
};

/// lr = lr * gamma at each milestone (twice at one that is listed twice).
struct MultiStepLROptions {
  NumberList milestones;
  Number gamma = 0.1;
  std::int64_t last_epoch = -1;
};

/// lr = initial_lr * factor until total_iters, then initial_lr.
struct ConstantLROptions {
  Number factor = 1.0 / 3;
  Number total_iters = 5;
  std::int64_t last_epoch = -1;
};

/// The factor goes from start_factor to end_factor in total_iters steps.
struct LinearLROptions {
  Number start_factor = 1.0 / 3;
  Number end_factor = 1.0;
  Number total_iters = 5;
  std::int64_t last_epoch = -1;
};

/// lr = lr * gamma.
struct ExponentialLROptions {
  Number gamma;
  std::int64_t last_epoch = -1;
};

/// From initial_lr to 0 in total_iters steps, along a polynomial.
struct PolynomialLROptions {
  Number total_iters = 5;
  Number power = 1.0;
  std::int64_t last_epoch = -1;
};

/// From initial_lr to eta_min in T_max steps along a half cosine, and back up after that.
struct CosineAnnealingLROptions {
  Number T_max;
  Number eta_min = 0.0;
  std::int64_t last_epoch = -1;
};

/// Half cosines from initial_lr to eta_min; the first takes T_0 steps, each further one T_mult times as many.
struct CosineAnnealingWarmRestartsOptions {
  std::int64_t T_0 = 0;  ///< required; 0 is refused
  std::int64_t T_mult = 1;
  Number eta_min = 0.0;
  std::int64_t last_epoch = -1;
};

/// Cycles between base_lr and max_lr; momentum (or betas[0]) cycles against it.
struct CyclicLROptions {
  PerGroup base_lr;
  PerGroup max_lr;
  Number step_size_up = 2000;
  std::optional<Number> step_size_down = std::nullopt;  ///< default: step_size_up
  std::string mode = "triangular";                      ///< triangular, triangular2, exp_range; ignored with scale_fn
  Number gamma = 1.0;
  std::optional<LrLambda> scale_fn = std::nullopt;  ///< of the cycle or of the iteration number, by scale_mode
  std::string scale_mode = "cycle";                 ///< cycle or iterations
  bool cycle_momentum = true;
  PerGroup base_momentum = 0.8;
  PerGroup max_momentum = 0.9;
  std::int64_t last_epoch = -1;
};

/// The 1cycle policy. Give total_steps, or epochs and steps_per_epoch.
struct OneCycleLROptions {
  PerGroup max_lr;
  std::optional<std::int64_t> total_steps = std::nullopt;
  std::optional<std::int64_t> epochs = std::nullopt;
  std::optional<std::int64_t> steps_per_epoch = std::nullopt;
  double pct_start = 0.3;
  std::string anneal_strategy = "cos";  ///< cos or linear
  bool cycle_momentum = true;
  PerGroup base_momentum = 0.85;
  PerGroup max_momentum = 0.95;
  Number div_factor = 25.0;
  Number final_div_factor = 1e4;
  bool three_phase = false;
  std::int64_t last_epoch = -1;
};

/// Anneals to swa_lr in anneal_epochs steps (torch.optim.swa_utils.SWALR).
struct SWALROptions {
  PerGroup swa_lr;
  std::int64_t anneal_epochs = 10;
  std::string anneal_strategy = "cos";  ///< cos or linear
  std::int64_t last_epoch = -1;
};

/// lr = lr * factor when a metric has not improved for more than `patience` steps.
struct ReduceLROnPlateauOptions {
  std::string mode = "min";  ///< min or max
  Number factor = 0.1;
  Number patience = 10;
  Number threshold = 1e-4;
  std::string threshold_mode = "rel";  ///< rel or abs
  Number cooldown = 0;
  PerGroup min_lr = 0;
  Number eps = 1e-8;
};

}  // namespace torchkeep::lr_scheduler
