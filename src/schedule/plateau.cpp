// SPDX-License-Identifier: BSD-3-Clause
// ReduceLROnPlateau.
#include <fmt/format.h>
#include <limits>

#include "handles.h"
#include "schedule.h"

namespace torchkeep::lr_scheduler {
namespace detail {

class PlateauSchedule final : public Schedule {
 public:
  PlateauSchedule(OptimizerRef optimizer, const ReduceLROnPlateauOptions& options)
      : Schedule("ReduceLROnPlateau", std::move(optimizer)),
        factor_(options.factor),
        min_lrs_(groups_->size(), options.min_lr.values().empty() ? Number(0) : options.min_lr.values().front()),
        patience_(options.patience),
        cooldown_(options.cooldown),
        eps_(options.eps),
        mode_(options.mode),
        threshold_(options.threshold),
        threshold_mode_(options.threshold_mode) {
    if (factor_ >= 1.0) throw Error(Code::invalid_argument, "Factor should be < 1.0.");
    if (!options.min_lr.is_list()) {
      default_min_lr_ = options.min_lr.values().front();
    } else if (options.min_lr.values().size() == groups_->size()) {
      min_lrs_ = options.min_lr.values();
    } else {
      throw Error(Code::invalid_argument,
                  fmt::format("expected {} min_lrs, got {}", groups_->size(), options.min_lr.values().size()));
    }
    last_epoch_ = 0;
    last_lr_ = group_values("lr");
    if (const std::string problem = unknown_mode(mode_, threshold_mode_); !problem.empty()) {
      throw Error(Code::invalid_argument, problem);
    }
    set_worst();
    best_ = mode_worse_;
    add_attributes();
  }

  void step() override {
    throw Error(Code::invalid_argument, "ReduceLROnPlateau.step() missing 1 required positional argument: 'metrics'");
  }

  void step_metric(double metrics, std::optional<std::int64_t> epoch) {
    last_epoch_ = epoch ? *epoch : (Number(last_epoch_) + 1).integer();
    if (is_better(metrics)) {
      best_ = metrics;
      num_bad_epochs_ = 0;
    } else {
      num_bad_epochs_ = num_bad_epochs_ + 1;
    }
    if (cooldown_counter_ > 0) {
      cooldown_counter_ = cooldown_counter_ - 1;
      num_bad_epochs_ = 0;
    }
    if (num_bad_epochs_ > patience_) {
      reduce_lr();
      cooldown_counter_ = cooldown_;
      num_bad_epochs_ = 0;
    }
    last_lr_ = group_values("lr");
  }

 private:
  static std::string unknown_mode(const std::string& mode, const std::string& threshold_mode) {
    if (mode != "min" && mode != "max") return fmt::format("mode {} is unknown!", mode);
    if (threshold_mode != "rel" && threshold_mode != "abs") {
      return fmt::format("threshold mode {} is unknown!", threshold_mode);
    }
    return {};
  }

  void add_attributes() {
    add("factor", &factor_, Role::argument);
    add("default_min_lr", &default_min_lr_, Role::derived);
    add("min_lrs", &min_lrs_, Role::argument);
    add("patience", &patience_, Role::argument);
    add("cooldown", &cooldown_, Role::argument);
    add("eps", &eps_, Role::argument);
    add("last_epoch", &last_epoch_, Role::position);
    add("_last_lr", &last_lr_, Role::passing);
    add("mode_worse", &mode_worse_, Role::passing);
    add("mode", &mode_, Role::argument);
    add("threshold", &threshold_, Role::argument);
    add("threshold_mode", &threshold_mode_, Role::argument);
    add("best", &best_, Role::position);
    add("cooldown_counter", &cooldown_counter_, Role::position);
    add("num_bad_epochs", &num_bad_epochs_, Role::position);
  }

  void set_worst() {
    constexpr double infinity = std::numeric_limits<double>::infinity();
    mode_worse_ = mode_ == "min" ? infinity : -infinity;
  }

  bool is_better(const Number& metric) const {
    if (mode_ == "min" && threshold_mode_ == "rel") return metric < best_ * (1.0 - threshold_);
    if (mode_ == "min") return metric < best_ - threshold_;
    if (threshold_mode_ == "rel") return metric > best_ * (threshold_ + 1.0);
    return metric > best_ + threshold_;
  }

  void reduce_lr() {
    if (groups_->size() != min_lrs_.size()) {
      if (!default_min_lr_) {
        throw Error(
            Code::mismatch,
            fmt::format("The number of param groups in the `optimizer` ({}) differs from when `ReduceLROnPlateau` "
                        "was initialized ({}), usually due to a new param group being added to the optimizer. "
                        "Please modify the `min_lrs` field to match the length of the `optimizer` param groups.",
                        groups_->size(), min_lrs_.size()));
      }
      min_lrs_.assign(groups_->size(), *default_min_lr_);
    }
    for (std::size_t i = 0; i < groups_->size(); ++i) {
      const Number old_lr = to_float(group(i, "lr"));
      const Number new_lr = maximum(old_lr * factor_, min_lrs_[i]);
      if (old_lr - new_lr > eps_) groups_->set(i, "lr", new_lr);
    }
  }

  Numbers get_lr() override {
    throw Error(Code::unsupported, "NotImplementedError: ReduceLROnPlateau has no get_lr()");
  }

  void plan_special(const Value& state, const std::string& /*prefix*/, LoadPlan& plan) override {
    const Value mode = state.get("mode", mode_);
    const Value threshold_mode = state.get("threshold_mode", threshold_mode_);
    if (mode.is(Kind::string) && threshold_mode.is(Kind::string)) {
      const std::string problem = unknown_mode(mode.as_string(), threshold_mode.as_string());
      if (!problem.empty()) plan.problems.push_back(problem);
    }
    plan.commits.push_back([this] { set_worst(); });
  }

  Number factor_;
  std::optional<Number> default_min_lr_;
  Numbers min_lrs_;
  Number patience_, cooldown_, eps_;
  Number mode_worse_ = 0.0;
  std::string mode_;
  Number threshold_;
  std::string threshold_mode_;
  Number best_ = 0.0;
  Number cooldown_counter_ = 0, num_bad_epochs_ = 0;
};

}  // namespace detail

using namespace detail;

ReduceLROnPlateau::ReduceLROnPlateau(OptimizerRef optimizer, ReduceLROnPlateauOptions options)
    : Scheduler(construct<PlateauSchedule>(optimizer, options)) {}

void ReduceLROnPlateau::step(double metrics) {
  PlainArithmetic arithmetic;
  forget_loaded(schedule_->groups());
  static_cast<PlateauSchedule&>(*schedule_).step_metric(metrics, std::nullopt);
}

void ReduceLROnPlateau::step(double metrics, std::int64_t epoch) {
  PlainArithmetic arithmetic;
  forget_loaded(schedule_->groups());
  static_cast<PlateauSchedule&>(*schedule_).step_metric(metrics, epoch);
}

}  // namespace torchkeep::lr_scheduler
