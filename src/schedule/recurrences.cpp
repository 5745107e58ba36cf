// SPDX-License-Identifier: BSD-3-Clause
// The schedulers whose next learning rate follows from the last one or from the epoch alone: Lambda, Multiplicative,
// Step, MultiStep, Constant, Linear, Exponential, Polynomial, Cosine. Each formula keeps Python's order of operations.
#include <algorithm>
#include <fmt/format.h>

#include "handles.h"
#include "schedule.h"

namespace torchkeep::lr_scheduler {
namespace detail {
namespace {

/// What LambdaLR and MultiplicativeLR share: a function per group, saved when it is a callable object with a state.
class FunctionSchedule : public LeafSchedule {
 protected:
  FunctionSchedule(std::string class_name, OptimizerRef optimizer, const LrLambdas& lr_lambda)
      : LeafSchedule(std::move(class_name), std::move(optimizer)) {
    const std::size_t count = groups_->size();
    if (!lr_lambda.is_list()) {
      functions_.assign(count, lr_lambda.functions().front());
    } else if (lr_lambda.functions().size() == count) {
      functions_ = lr_lambda.functions();
    } else {
      throw Error(Code::invalid_argument,
                  fmt::format("Expected {} lr_lambdas, but got {}", count, lr_lambda.functions().size()));
    }
  }

  bool is_special(std::string_view key) const override { return key == "lr_lambdas"; }

  void save_special(Value& state) const override {
    Value list = Value::sequence(Kind::list, {});
    for (const LrLambda& function : functions_) list.append(function.has_state() ? function.state_dict() : Value());
    state.set("lr_lambdas", list);
  }

  void plan_special(const Value& state, const std::string& /*prefix*/, LoadPlan& plan) override {
    const auto list = state.find("lr_lambdas");
    if (!list) return plan.problems.push_back("KeyError: 'lr_lambdas' is missing");
    if (!list->is(Kind::list) || list->size() != functions_.size()) {
      return plan.problems.push_back(fmt::format("'lr_lambdas' must be a list of {}", functions_.size()));
    }
    for (std::size_t i = 0; i < functions_.size(); ++i) {
      const Value saved = list->elements()[i];
      if (saved.is_none() || (saved.is(Kind::dict) && saved.empty())) continue;
      if (!functions_[i].has_state()) {
        plan.problems.push_back(
            fmt::format("'lr_lambdas[{}]' holds the state of a callable object, but the function given "
                        "has no load_state_dict()",
                        i));
      } else {
        plan.callables.push_back([function = functions_[i], saved] { function.load_state_dict(saved); });
      }
    }
  }

  std::vector<LrLambda> functions_;
};

class LambdaSchedule final : public FunctionSchedule {
 public:
  LambdaSchedule(OptimizerRef optimizer, const LambdaLROptions& options)
      : FunctionSchedule("LambdaLR", std::move(optimizer), options.lr_lambda) {
    initialize(options.last_epoch);
  }

 private:
  Numbers get_lr() override {
    check_zip(functions_.size(), base_lrs_.size());
    Numbers values;
    for (std::size_t i = 0; i < base_lrs_.size(); ++i) values.push_back(base_lrs_[i] * functions_[i](last_epoch_));
    return values;
  }
};

class MultiplicativeSchedule final : public FunctionSchedule {
 public:
  MultiplicativeSchedule(OptimizerRef optimizer, const MultiplicativeLROptions& options)
      : FunctionSchedule("MultiplicativeLR", std::move(optimizer), options.lr_lambda) {
    initialize(options.last_epoch);
  }

 private:
  Numbers get_lr() override {
    if (is_initial_) return group_values("lr");
    check_zip(functions_.size(), groups_->size());
    Numbers values;
    for (std::size_t i = 0; i < functions_.size(); ++i) values.push_back(group(i, "lr") * functions_[i](last_epoch_));
    return values;
  }
};

class StepSchedule final : public LeafSchedule {
 public:
  StepSchedule(OptimizerRef optimizer, const StepLROptions& options)
      : LeafSchedule("StepLR", std::move(optimizer)), step_size_(options.step_size), gamma_(options.gamma) {
    add("step_size", &step_size_, Role::argument);
    add("gamma", &gamma_, Role::argument);
    initialize(options.last_epoch);
  }

 private:
  Numbers get_lr() override {
    if (last_epoch_ == 0 || !equals(epoch() % step_size_, 0)) return group_values("lr");
    return each_lr([&](const Number& lr) { return lr * gamma_; });
  }

  std::optional<Numbers> closed_form_lr() override {
    return each_base_lr([&](const Number& base) { return base * power(gamma_, floor_divide(epoch(), step_size_)); });
  }

  Number step_size_, gamma_;
};

class MultiStepSchedule final : public LeafSchedule {
 public:
  MultiStepSchedule(OptimizerRef optimizer, const MultiStepLROptions& options)
      : LeafSchedule("MultiStepLR", std::move(optimizer)), gamma_(options.gamma) {
    for (const Number& milestone : options.milestones.values()) {
      if (auto* counted = find_milestone(milestone))
        counted->second = counted->second + 1;
      else
        milestones_.emplace_back(milestone, 1);
    }
    add("milestones", &milestones_, Role::argument);
    add("gamma", &gamma_, Role::argument);
    initialize(options.last_epoch);
  }

 private:
  std::pair<Number, Number>* find_milestone(const Number& x) {
    const auto found = std::find_if(milestones_.begin(), milestones_.end(),
                                    [&](const auto& milestone) { return equals(milestone.first, x); });
    return found == milestones_.end() ? nullptr : &*found;
  }

  Numbers get_lr() override {
    const auto* milestone = find_milestone(epoch());
    if (!milestone) return group_values("lr");
    return each_lr([&](const Number& lr) { return lr * power(gamma_, milestone->second); });
  }

  std::optional<Numbers> closed_form_lr() override {
    // bisect_right(sorted(milestones.elements()), last_epoch)
    Number passed = 0;
    for (const auto& [milestone, count] : milestones_) {
      if (milestone <= epoch() && count > 0) passed = passed + count;
    }
    return each_base_lr([&](const Number& base) { return base * power(gamma_, passed); });
  }

  Milestones milestones_;
  Number gamma_;
};

class ConstantSchedule final : public LeafSchedule {
 public:
  ConstantSchedule(OptimizerRef optimizer, const ConstantLROptions& options)
      : LeafSchedule("ConstantLR", std::move(optimizer)), factor_(options.factor), total_iters_(options.total_iters) {
    if (factor_ > 1.0 || factor_ < 0) {
      throw Error(Code::invalid_argument, "Constant multiplicative factor expected to be between 0 and 1.");
    }
    add("factor", &factor_, Role::argument);
    add("total_iters", &total_iters_, Role::argument);
    initialize(options.last_epoch);
  }

 private:
  Numbers get_lr() override {
    if (last_epoch_ == 0) return each_lr([&](const Number& lr) { return lr * factor_; });
    if (!equals(epoch(), total_iters_)) return group_values("lr");
    return each_lr([&](const Number& lr) { return lr * (1.0 / factor_); });
  }

  std::optional<Numbers> closed_form_lr() override {
    const Number over = epoch() >= total_iters_ ? 1 : 0;
    return each_base_lr([&](const Number& base) { return base * (factor_ + over * (1 - factor_)); });
  }

  Number factor_, total_iters_;
};

class LinearSchedule final : public LeafSchedule {
 public:
  LinearSchedule(OptimizerRef optimizer, const LinearLROptions& options)
      : LeafSchedule("LinearLR", std::move(optimizer)),
        start_factor_(options.start_factor),
        end_factor_(options.end_factor),
        total_iters_(options.total_iters) {
    if (start_factor_ > 1.0 || start_factor_ <= 0) {
      throw Error(Code::invalid_argument,
                  "Starting multiplicative factor expected to be greater than 0 and less or equal to 1.");
    }
    if (end_factor_ > 1.0 || end_factor_ < 0) {
      throw Error(Code::invalid_argument, "Ending multiplicative factor expected to be between 0 and 1.");
    }
    add("start_factor", &start_factor_, Role::argument);
    add("end_factor", &end_factor_, Role::argument);
    add("total_iters", &total_iters_, Role::argument);
    initialize(options.last_epoch);
  }

 private:
  Numbers get_lr() override {
    if (last_epoch_ == 0) return each_lr([&](const Number& lr) { return lr * start_factor_; });
    if (is_initial_ || epoch() > total_iters_) return group_values("lr");
    return each_lr([&](const Number& lr) {
      return lr * (1.0 + (end_factor_ - start_factor_) /
                             (total_iters_ * start_factor_ + (epoch() - 1) * (end_factor_ - start_factor_)));
    });
  }

  std::optional<Numbers> closed_form_lr() override {
    return each_base_lr([&](const Number& base) {
      return base * (start_factor_ + (end_factor_ - start_factor_) * minimum(total_iters_, epoch()) / total_iters_);
    });
  }

  Number start_factor_, end_factor_, total_iters_;
};

class ExponentialSchedule final : public LeafSchedule {
 public:
  ExponentialSchedule(OptimizerRef optimizer, const ExponentialLROptions& options)
      : LeafSchedule("ExponentialLR", std::move(optimizer)), gamma_(options.gamma) {
    add("gamma", &gamma_, Role::argument);
    initialize(options.last_epoch);
  }

 private:
  Numbers get_lr() override {
    if (is_initial_) return group_values("lr");
    return each_lr([&](const Number& lr) { return lr * gamma_; });
  }

  std::optional<Numbers> closed_form_lr() override {
    return each_base_lr([&](const Number& base) { return base * power(gamma_, epoch()); });
  }

  Number gamma_;
};

class PolynomialSchedule final : public LeafSchedule {
 public:
  PolynomialSchedule(OptimizerRef optimizer, const PolynomialLROptions& options)
      : LeafSchedule("PolynomialLR", std::move(optimizer)), total_iters_(options.total_iters), power_(options.power) {
    add("total_iters", &total_iters_, Role::argument);
    add("power", &power_, Role::argument);
    initialize(options.last_epoch);
  }

 private:
  Numbers get_lr() override {
    if (is_initial_ || epoch() > total_iters_) return group_values("lr");
    const Number decay_factor = power((1.0 - epoch() / total_iters_) / (1.0 - (epoch() - 1) / total_iters_), power_);
    return each_lr([&](const Number& lr) { return lr * decay_factor; });
  }

  std::optional<Numbers> closed_form_lr() override {
    return each_base_lr(
        [&](const Number& base) { return base * power(1.0 - minimum(total_iters_, epoch()) / total_iters_, power_); });
  }

  Number total_iters_, power_;
};

class CosineSchedule final : public LeafSchedule {
 public:
  CosineSchedule(OptimizerRef optimizer, const CosineAnnealingLROptions& options)
      : LeafSchedule("CosineAnnealingLR", std::move(optimizer)), T_max_(options.T_max), eta_min_(options.eta_min) {
    add("T_max", &T_max_, Role::argument);
    add("eta_min", &eta_min_, Role::argument);
    initialize(options.last_epoch);
  }

 private:
  Numbers get_lr() override {
    if (is_initial_) return group_values("lr");
    const Number e = epoch();
    if (step_count_ == 1 && last_epoch_ > 0) {
      check_zip(base_lrs_.size(), groups_->size());
      return each_base_lr(
          [&](const Number& base) { return eta_min_ + (base - eta_min_) * (1 + cosine(e * pi / T_max_)) / 2; });
    }
    if (equals((e - 1 - T_max_) % (2 * T_max_), 0)) {
      check_zip(base_lrs_.size(), groups_->size());
      Numbers values;
      for (std::size_t i = 0; i < base_lrs_.size(); ++i) {
        values.push_back(group(i, "lr") + (base_lrs_[i] - eta_min_) * (1 - cosine(pi / T_max_)) / 2);
      }
      return values;
    }
    return each_lr([&](const Number& lr) {
      return (1 + cosine(pi * e / T_max_)) / (1 + cosine(pi * (e - 1) / T_max_)) * (lr - eta_min_) + eta_min_;
    });
  }

  std::optional<Numbers> closed_form_lr() override {
    return each_base_lr(
        [&](const Number& base) { return eta_min_ + (base - eta_min_) * (1 + cosine(pi * epoch() / T_max_)) / 2; });
  }

  Number T_max_, eta_min_;
};

}  // namespace
}  // namespace detail

using namespace detail;

LambdaLR::LambdaLR(OptimizerRef optimizer, LambdaLROptions options)
    : LRScheduler(construct<LambdaSchedule>(optimizer, options)) {}
MultiplicativeLR::MultiplicativeLR(OptimizerRef optimizer, MultiplicativeLROptions options)
    : LRScheduler(construct<MultiplicativeSchedule>(optimizer, options)) {}
StepLR::StepLR(OptimizerRef optimizer, StepLROptions options)
    : LRScheduler(construct<StepSchedule>(optimizer, options)) {}
MultiStepLR::MultiStepLR(OptimizerRef optimizer, MultiStepLROptions options)
    : LRScheduler(construct<MultiStepSchedule>(optimizer, options)) {}
ConstantLR::ConstantLR(OptimizerRef optimizer, ConstantLROptions options)
    : LRScheduler(construct<ConstantSchedule>(optimizer, options)) {}
LinearLR::LinearLR(OptimizerRef optimizer, LinearLROptions options)
    : LRScheduler(construct<LinearSchedule>(optimizer, options)) {}
ExponentialLR::ExponentialLR(OptimizerRef optimizer, ExponentialLROptions options)
    : LRScheduler(construct<ExponentialSchedule>(optimizer, options)) {}
PolynomialLR::PolynomialLR(OptimizerRef optimizer, PolynomialLROptions options)
    : LRScheduler(construct<PolynomialSchedule>(optimizer, options)) {}
CosineAnnealingLR::CosineAnnealingLR(OptimizerRef optimizer, CosineAnnealingLROptions options)
    : LRScheduler(construct<CosineSchedule>(optimizer, options)) {}

}  // namespace torchkeep::lr_scheduler
