// SPDX-License-Identifier: BSD-3-Clause
// The schedulers with a period or phases: CosineAnnealingWarmRestarts, CyclicLR, OneCycleLR, SWALR.
#include <fmt/format.h>

#include "handles.h"
#include "schedule.h"

namespace torchkeep::lr_scheduler {
namespace detail {
namespace {

class WarmRestartsSchedule final : public LeafSchedule {
 public:
  WarmRestartsSchedule(OptimizerRef optimizer, const CosineAnnealingWarmRestartsOptions& options)
      : LeafSchedule("CosineAnnealingWarmRestarts", std::move(optimizer)),
        T_0_(options.T_0),
        T_i_(options.T_0),
        T_mult_(options.T_mult),
        eta_min_(options.eta_min),
        T_cur_(options.last_epoch) {
    if (options.T_0 <= 0) {
      throw Error(Code::invalid_argument, fmt::format("Expected positive integer T_0, but got {}", options.T_0));
    }
    if (options.T_mult < 1) {
      throw Error(Code::invalid_argument, fmt::format("Expected integer T_mult >= 1, but got {}", options.T_mult));
    }
    add("T_0", &T_0_, Role::argument);
    add("T_i", &T_i_, Role::position);
    add("T_mult", &T_mult_, Role::argument);
    add("eta_min", &eta_min_, Role::argument);
    add("T_cur", &T_cur_, Role::position);
    initialize(options.last_epoch);
  }

  // Unlike all others this leaves _step_count alone.
  void step() override {
    if (last_epoch_ < 0) return step_to(0);
    const Number next = epoch() + 1;
    T_cur_ = T_cur_ + 1;
    if (T_cur_ >= T_i_) {
      T_cur_ = T_cur_ % T_i_;
      T_i_ = T_i_ * T_mult_;
    }
    last_epoch_ = next.integer();
    write_lr(get_lr());
  }

  void step_to(const Number& epoch) override {
    if (epoch < 0) {
      throw Error(Code::invalid_argument, fmt::format("Expected non-negative epoch, but got {}", epoch.to_string()));
    }
    if (epoch < T_0_) {
      T_i_ = T_0_;
      T_cur_ = epoch;
    } else if (T_mult_ == 1) {
      T_cur_ = epoch % T_0_;
    } else {
      const Number mult = T_mult_;
      const Number n = truncate_to_int(logarithm(epoch / T_0_ * (mult - 1) + 1, mult));
      T_cur_ = epoch - T_0_ * (power(mult, n) - 1) / (mult - 1);
      T_i_ = T_0_ * power(mult, n);
    }
    last_epoch_ = floor_to_int(epoch);
    write_lr(get_lr());
  }

 private:
  Numbers get_lr() override {
    return each_base_lr(
        [&](const Number& base) { return eta_min_ + (base - eta_min_) * (1 + cosine(pi * T_cur_ / T_i_)) / 2; });
  }

  std::int64_t T_0_;
  Number T_i_;
  std::int64_t T_mult_;
  Number eta_min_, T_cur_;
};

class CyclicSchedule final : public LeafSchedule {
 public:
  CyclicSchedule(OptimizerRef optimizer, const CyclicLROptions& options)
      : LeafSchedule("CyclicLR", std::move(optimizer)),
        total_size_(0.0),
        step_ratio_(0.0),
        mode_(options.mode),
        gamma_(options.gamma),
        scale_fn_custom_(options.scale_fn),
        scale_mode_(options.scale_mode),
        cycle_momentum_(options.cycle_momentum) {
    const Numbers base_lrs = format_param("base_lr", *groups_, options.base_lr);
    const bool fresh = options.last_epoch == -1;
    for (std::size_t i = 0; fresh && i < groups_->size(); ++i) groups_->set(i, "lr", base_lrs[i]);
    max_lrs_ = format_param("max_lr", *groups_, options.max_lr);
    const Number up = to_float(options.step_size_up);
    total_size_ = up + to_float(options.step_size_down.value_or(up));
    step_ratio_ = up / total_size_;
    if (!is_known(mode_) && !scale_fn_custom_) {
      throw Error(Code::invalid_argument, "mode is invalid and scale_fn is None");
    }
    set_scale_mode();
    if (cycle_momentum_) set_up_momentum(options, fresh);
    add_attributes();
    initialize(options.last_epoch);
    base_lrs_ = base_lrs;
    set_role("base_lrs", Role::argument);
  }

 private:
  static bool is_known(const std::string& mode) {
    return mode == "triangular" || mode == "triangular2" || mode == "exp_range";
  }

  void set_scale_mode() {
    if (!scale_fn_custom_) scale_mode_ = mode_ == "exp_range" ? "iterations" : "cycle";
  }

  void set_up_momentum(const CyclicLROptions& options, bool fresh) {
    use_beta1_ = require_momentum();
    base_momentums_ = format_param("base_momentum", *groups_, options.base_momentum);
    max_momentums_ = format_param("max_momentum", *groups_, options.max_momentum);
    for (std::size_t i = 0; fresh && i < groups_->size(); ++i) {
      write_momentum(i, max_momentums_[i]);
      groups_->set(i, "max_momentum", max_momentums_[i]);
      groups_->set(i, "base_momentum", base_momentums_[i]);
    }
  }

  void add_attributes() {
    add("max_lrs", &max_lrs_, Role::argument);
    add("total_size", &total_size_, Role::argument);
    add("step_ratio", &step_ratio_, Role::argument);
    add("mode", &mode_, Role::argument);
    add("gamma", &gamma_, Role::argument);
    add("scale_mode", &scale_mode_, Role::argument);
    add("cycle_momentum", &cycle_momentum_, Role::argument);
    const Role momentum = cycle_momentum_ ? Role::derived : Role::unused;
    add("use_beta1", &use_beta1_, momentum);
    add("base_momentums", &base_momentums_, momentum);
    add("max_momentums", &max_momentums_, momentum);
  }

  Number scale(std::int64_t x) const {
    if (scale_fn_custom_) return (*scale_fn_custom_)(x);
    if (mode_ == "triangular2") return 1 / power(2.0, Number(x) - 1);
    if (mode_ == "exp_range") return power(gamma_, x);
    return 1.0;
  }

  Numbers get_lr() override {
    const std::int64_t cycle = floor_to_int(1 + epoch() / total_size_);
    const Number x = 1.0 + epoch() / total_size_ - cycle;
    const Number scale_factor = x <= step_ratio_ ? x / step_ratio_ : (x - 1) / (step_ratio_ - 1);
    const std::int64_t scaled = scale_mode_ == "cycle" ? cycle : last_epoch_;

    check_zip(base_lrs_.size(), max_lrs_.size());
    Numbers lrs;
    for (std::size_t i = 0; i < base_lrs_.size(); ++i) {
      const Number base_height = (max_lrs_[i] - base_lrs_[i]) * scale_factor;
      lrs.push_back(base_lrs_[i] + base_height * scale(scaled));
    }
    if (cycle_momentum_) {
      check_zip(base_momentums_.size(), max_momentums_.size());
      check_zip(groups_->size(), base_momentums_.size());
      for (std::size_t i = 0; i < base_momentums_.size(); ++i) {
        const Number base_height = (max_momentums_[i] - base_momentums_[i]) * scale_factor;
        write_momentum(i, max_momentums_[i] - base_height * scale(scaled));
      }
    }
    return lrs;
  }

  bool is_special(std::string_view key) const override { return key == "_scale_fn_custom"; }

  void save_special(Value& state) const override {
    const bool saved = scale_fn_custom_ && scale_fn_custom_->has_state();
    state.set("_scale_fn_custom", saved ? scale_fn_custom_->state_dict() : Value());
  }

  void plan_special(const Value& state, const std::string& /*prefix*/, LoadPlan& plan) override {
    const auto function = state.find("_scale_fn_custom");
    if (!function) {
      plan.problems.push_back("KeyError: '_scale_fn_custom' is missing");
    } else if (!function->is_none()) {
      if (!scale_fn_custom_ || !scale_fn_custom_->has_state()) {
        plan.problems.push_back(
            "'_scale_fn_custom' holds the state of a callable object, but no scale_fn with load_state_dict() was "
            "given");
      } else {
        plan.callables.push_back([fn = *scale_fn_custom_, saved = *function] { fn.load_state_dict(saved); });
      }
    }
    const Value mode = state.get("mode", mode_);
    if (!scale_fn_custom_ && mode.is(Kind::string) && !is_known(mode.as_string())) {
      plan.problems.push_back(fmt::format("mode '{}' needs the scale_fn it was saved with", mode.as_string()));
    }
    plan_momentum(state, plan);
    plan.commits.push_back([this] { set_scale_mode(); });
  }

  Numbers max_lrs_;
  Number total_size_, step_ratio_;
  std::string mode_;
  Number gamma_;
  std::optional<LrLambda> scale_fn_custom_;
  std::string scale_mode_;
  bool cycle_momentum_;
  bool use_beta1_ = false;
  Numbers base_momentums_, max_momentums_;
};

Number anneal_cosine(const Number& start, const Number& end, const Number& pct) {
  const Number cos_out = cosine(pi * pct) + 1;
  return end + (start - end) / 2.0 * cos_out;
}

Number anneal_linear(const Number& start, const Number& end, const Number& pct) {
  return (end - start) * pct + start;
}

class OneCycleSchedule final : public LeafSchedule {
 public:
  OneCycleSchedule(OptimizerRef optimizer, const OneCycleLROptions& options)
      : LeafSchedule("OneCycleLR", std::move(optimizer)),
        total_steps_(count_steps(options)),
        anneal_func_type_(options.anneal_strategy),
        cycle_momentum_(options.cycle_momentum) {
    const Number pct_start = options.pct_start;
    const Number last = Number(total_steps_) - 1;
    phases_.push_back({pct_start * total_steps_ - 1, "initial_lr", "max_lr", "max_momentum", "base_momentum"});
    if (options.three_phase) {
      phases_.push_back({2 * pct_start * total_steps_ - 2, "max_lr", "initial_lr", "base_momentum", "max_momentum"});
      phases_.push_back({last, "initial_lr", "min_lr", "max_momentum", "max_momentum"});
    } else {
      phases_.push_back({last, "max_lr", "min_lr", "base_momentum", "max_momentum"});
    }
    if (pct_start < 0 || pct_start > 1) {
      throw Error(Code::invalid_argument,
                  fmt::format("Expected float between 0 and 1 pct_start, but got {}", pct_start.to_string()));
    }
    if (anneal_func_type_ != "cos" && anneal_func_type_ != "linear") {
      throw Error(Code::invalid_argument,
                  fmt::format("anneal_strategy must be one of 'cos' or 'linear', instead got {}", anneal_func_type_));
    }
    set_up_groups(options);
    add("total_steps", &total_steps_, Role::argument);
    add("_schedule_phases", &phases_, Role::argument);
    add("_anneal_func_type", &anneal_func_type_, Role::derived);
    add("cycle_momentum", &cycle_momentum_, Role::argument);
    add("use_beta1", &use_beta1_, cycle_momentum_ ? Role::derived : Role::unused);
    initialize(options.last_epoch);
  }

  void finish_load(const std::string& prefix, LoadPlan& plan) override {
    group_arguments_.finish_load(*groups_, prefix, plan);
  }

 private:
  static std::int64_t count_steps(const OneCycleLROptions& options) {
    const auto positive = [](const char* name, std::int64_t value) {
      if (value > 0) return Number(value);
      throw Error(Code::invalid_argument, fmt::format("Expected positive integer {}, but got {}", name, value));
    };
    if (options.total_steps) return positive("total_steps", *options.total_steps).integer();
    if (!options.epochs || !options.steps_per_epoch) {
      throw Error(Code::invalid_argument, "You must define either total_steps OR (epochs AND steps_per_epoch)");
    }
    const Number epochs = positive("epochs", *options.epochs);
    return (epochs * positive("steps_per_epoch", *options.steps_per_epoch)).integer();
  }

  void set_up_groups(const OneCycleLROptions& options) {
    const bool fresh = options.last_epoch == -1;
    const Numbers max_lrs = format_param("max_lr", *groups_, options.max_lr);
    for (std::size_t i = 0; fresh && i < groups_->size(); ++i) {
      const Number initial_lr = max_lrs[i] / options.div_factor;
      group_arguments_.set(*groups_, i, "initial_lr", initial_lr);
      group_arguments_.set(*groups_, i, "max_lr", max_lrs[i]);
      group_arguments_.set(*groups_, i, "min_lr", initial_lr / options.final_div_factor);
    }
    if (!cycle_momentum_) return;
    use_beta1_ = require_momentum();
    const Numbers max_momentums = format_param("max_momentum", *groups_, options.max_momentum);
    const Numbers base_momentums = format_param("base_momentum", *groups_, options.base_momentum);
    for (std::size_t i = 0; fresh && i < groups_->size(); ++i) {
      write_momentum(i, max_momentums[i]);
      group_arguments_.set(*groups_, i, "max_momentum", max_momentums[i]);
      group_arguments_.set(*groups_, i, "base_momentum", base_momentums[i]);
    }
  }

  Numbers get_lr() override {
    group_arguments_.apply(*groups_);
    if (last_epoch_ > total_steps_) {
      throw Error(
          Code::invalid_argument,
          fmt::format("Tried to step {} times. The specified number of total steps is {}", last_epoch_, total_steps_));
    }
    Number start_step = 0.0;
    std::size_t index = 0;
    while (index + 1 < phases_.size() && !(epoch() <= phases_[index].end_step)) start_step = phases_[index++].end_step;
    const Phase& phase = phases_[index];
    const auto anneal = anneal_func_type_ == "cos" ? anneal_cosine : anneal_linear;
    Numbers lrs;
    for (std::size_t i = 0; i < groups_->size(); ++i) {
      const Number pct = (epoch() - start_step) / (phase.end_step - start_step);
      lrs.push_back(anneal(group(i, phase.start_lr), group(i, phase.end_lr), pct));
      if (!cycle_momentum_) continue;
      write_momentum(i, anneal(group(i, phase.start_momentum), group(i, phase.end_momentum), pct));
    }
    return lrs;
  }

  void plan_special(const Value& state, const std::string& /*prefix*/, LoadPlan& plan) override {
    const Value type = state.get("_anneal_func_type", anneal_func_type_);
    if (type.is(Kind::string) && type.as_string() != "cos" && type.as_string() != "linear") {
      plan.problems.push_back(fmt::format("Unknown _anneal_func_type: {}", type.as_string()));
    }
    plan_momentum(state, plan);
  }

  std::int64_t total_steps_;
  std::vector<Phase> phases_;
  std::string anneal_func_type_;
  bool cycle_momentum_;
  bool use_beta1_ = false;
  GroupArguments group_arguments_;
};

class SWASchedule final : public LeafSchedule {
 public:
  SWASchedule(OptimizerRef optimizer, const SWALROptions& options)
      : LeafSchedule("SWALR", std::move(optimizer)),
        anneal_strategy_(options.anneal_strategy),
        anneal_epochs_(options.anneal_epochs) {
    const Numbers swa_lrs = format_param("swa_lr", *groups_, options.swa_lr);
    for (std::size_t i = 0; i < groups_->size(); ++i) group_arguments_.set(*groups_, i, "swa_lr", swa_lrs[i]);
    if (anneal_strategy_ != "cos" && anneal_strategy_ != "linear") {
      throw Error(Code::invalid_argument,
                  fmt::format("anneal_strategy must be one of 'cos' or 'linear', instead got {}", anneal_strategy_));
    }
    if (anneal_epochs_ < 0) {
      throw Error(Code::invalid_argument,
                  fmt::format("anneal_epochs must be equal or greater than 0, got {}", anneal_epochs_));
    }
    add("_anneal_strategy", &anneal_strategy_, Role::derived);
    add("anneal_epochs", &anneal_epochs_, Role::argument);
    initialize(options.last_epoch);
  }

  void finish_load(const std::string& prefix, LoadPlan& plan) override {
    group_arguments_.finish_load(*groups_, prefix, plan);
  }

 private:
  Number anneal(const Number& t) const { return anneal_strategy_ == "cos" ? (1 - cosine(pi * t)) / 2 : t; }

  Numbers get_lr() override {
    group_arguments_.apply(*groups_);
    Number step = Number(step_count_) - 1;
    if (anneal_epochs_ == 0) step = maximum(1, step);
    const Number prev_alpha = anneal(maximum(0, minimum(1, (step - 1) / maximum(1, anneal_epochs_))));
    const Number alpha = anneal(maximum(0, minimum(1, step / maximum(1, anneal_epochs_))));
    Numbers values;
    for (std::size_t i = 0; i < groups_->size(); ++i) {
      const Number swa_lr = group(i, "swa_lr");
      const Number lr = equals(prev_alpha, 1) ? swa_lr : (group(i, "lr") - prev_alpha * swa_lr) / (1 - prev_alpha);
      values.push_back(swa_lr * alpha + lr * (1 - alpha));
    }
    return values;
  }

  // PyTorch 1.13 saved the function itself; PyTorch 2.13 drops it, too.
  bool is_special(std::string_view key) const override { return key == "anneal_func"; }

  std::string anneal_strategy_;
  std::int64_t anneal_epochs_;
  GroupArguments group_arguments_;
};

}  // namespace
}  // namespace detail

using namespace detail;

CosineAnnealingWarmRestarts::CosineAnnealingWarmRestarts(OptimizerRef optimizer,
                                                         CosineAnnealingWarmRestartsOptions options)
    : LRScheduler(construct<WarmRestartsSchedule>(optimizer, options)) {}
CyclicLR::CyclicLR(OptimizerRef optimizer, CyclicLROptions options)
    : LRScheduler(construct<CyclicSchedule>(optimizer, options)) {}
OneCycleLR::OneCycleLR(OptimizerRef optimizer, OneCycleLROptions options)
    : LRScheduler(construct<OneCycleSchedule>(optimizer, options)) {}
SWALR::SWALR(OptimizerRef optimizer, SWALROptions options) : LRScheduler(construct<SWASchedule>(optimizer, options)) {}

}  // namespace torchkeep::lr_scheduler
