// SPDX-License-Identifier: BSD-3-Clause
// One case of the exchange with Python: a model, an optimizer with explicit options, and its training.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include <torch/torch.h>

#include <torchkeep/torch.h>

namespace torchkeep {

/// The twin of Net in exchange.py: two layers and a parameter that never gets a gradient.
struct ExchangeNetImpl : torch::nn::Module {
  ExchangeNetImpl() {
    first = register_module("first", torch::nn::Linear(3, 4));
    second = register_module("second", torch::nn::Linear(4, 2));
    unused = register_parameter("unused", torch::ones({2}));
  }
  at::Tensor forward(const at::Tensor& x) { return second(torch::tanh(first(x))); }
  torch::nn::Linear first{nullptr}, second{nullptr};
  at::Tensor unused;
};
TORCH_MODULE(ExchangeNet);

// Options by LibTorch's own accessors, so that a wrong row of the table shows as another training.
template <class Options>
void apply_adam(Options& options, const Value& values) {
  if (auto v = values.find("lr")) options.lr(v->to<double>());
  if (auto v = values.find("betas")) options.betas({(*v)[0].to<double>(), (*v)[1].to<double>()});
  if (auto v = values.find("eps")) options.eps(v->to<double>());
  if (auto v = values.find("weight_decay")) options.weight_decay(v->to<double>());
  if (auto v = values.find("amsgrad")) options.amsgrad(v->to<bool>());
}
inline void apply(torch::optim::AdamOptions& options, const Value& values) {
  apply_adam(options, values);
}
inline void apply(torch::optim::AdamWOptions& options, const Value& values) {
  apply_adam(options, values);
}
inline void apply(torch::optim::SGDOptions& options, const Value& values) {
  if (auto v = values.find("lr")) options.lr(v->to<double>());
  if (auto v = values.find("momentum")) options.momentum(v->to<double>());
  if (auto v = values.find("dampening")) options.dampening(v->to<double>());
  if (auto v = values.find("weight_decay")) options.weight_decay(v->to<double>());
  if (auto v = values.find("nesterov")) options.nesterov(v->to<bool>());
}
inline void apply(torch::optim::RMSpropOptions& options, const Value& values) {
  if (auto v = values.find("lr")) options.lr(v->to<double>());
  if (auto v = values.find("alpha")) options.alpha(v->to<double>());
  if (auto v = values.find("eps")) options.eps(v->to<double>());
  if (auto v = values.find("weight_decay")) options.weight_decay(v->to<double>());
  if (auto v = values.find("momentum")) options.momentum(v->to<double>());
  if (auto v = values.find("centered")) options.centered(v->to<bool>());
}
inline void apply(torch::optim::AdagradOptions& options, const Value& values) {
  if (auto v = values.find("lr")) options.lr(v->to<double>());
  if (auto v = values.find("lr_decay")) options.lr_decay(v->to<double>());
  if (auto v = values.find("weight_decay")) options.weight_decay(v->to<double>());
  if (auto v = values.find("initial_accumulator_value")) options.initial_accumulator_value(v->to<double>());
  if (auto v = values.find("eps")) options.eps(v->to<double>());
}
inline void apply(torch::optim::LBFGSOptions& options, const Value& values) {
  if (auto v = values.find("lr")) options.lr(v->to<double>());
  if (auto v = values.find("max_iter")) options.max_iter(v->to<std::int64_t>());
  if (auto v = values.find("max_eval")) options.max_eval(v->to<std::int64_t>());
  if (auto v = values.find("tolerance_grad")) options.tolerance_grad(v->to<double>());
  if (auto v = values.find("tolerance_change")) options.tolerance_change(v->to<double>());
  if (auto v = values.find("history_size")) options.history_size(v->to<std::int64_t>());
  if (auto v = values.find("line_search_fn")) options.line_search_fn(v->to<std::string>());
}

/// A case that is set up: the model and its optimizer.
class ExchangeCase {
 public:
  explicit ExchangeCase(const Value& spec) : spec_(spec) {
    const bool wide = spec["default_dtype"].as_string() == "float64";
    torch::set_default_dtype(wide ? caffe2::TypeMeta::Make<double>() : caffe2::TypeMeta::Make<float>());
    torch::manual_seed(1);
    net_ = ExchangeNet();
    net_->to(to_scalar_type(*dtype_from_name(spec["dtype"].as_string())));
    if (spec["strided"].to<bool>()) {
      at::Tensor& weight = net_->second->weight;
      weight.set_data(weight.detach().t().contiguous().t());
    }
    for (const auto& name : spec["frozen"].to<std::vector<std::string>>()) param(name).set_requires_grad(false);
    make_optimizer(spec["optimizer"].as_string());
  }
  ~ExchangeCase() { torch::set_default_dtype(caffe2::TypeMeta::Make<float>()); }
  ExchangeCase(const ExchangeCase&) = delete;

  /// Training steps first, first + 1, ...; step i draws its data from seed 1000 + i.
  void train(int first, int count) {
    for (int i = first; i < first + count; ++i) {
      const at::Generator generator = at::make_generator<at::CPUGeneratorImpl>(1000 + i);
      const at::Tensor x = torch::randn({5, 3}, generator, torch::kFloat).to(net_->first->weight.scalar_type());
      optimizer_->step([&] {
        optimizer_->zero_grad();
        at::Tensor loss = net_(x).square().mean();
        loss.backward();
        return loss;
      });
    }
  }

  Value state() const {
    Value optimizer = spec_["names"].to<bool>() ? state_dict(*optimizer_, net_) : state_dict(*optimizer_);
    return {{"model", state_dict(net_)}, {"optimizer", optimizer}};
  }
  void load(const Value& state) {
    load_state_dict(net_, state["model"]);
    load_state_dict(*optimizer_, state["optimizer"], net_);
  }

 private:
  at::Tensor& param(const std::string& name) {
    if (name == "first.weight") return net_->first->weight;
    if (name == "first.bias") return net_->first->bias;
    if (name == "second.weight") return net_->second->weight;
    if (name == "second.bias") return net_->second->bias;
    return net_->unused;
  }

  void make_optimizer(const std::string& name) {
    using namespace torch::optim;
    if (name == "Adam") make<Adam, AdamOptions>();
    if (name == "AdamW") make<AdamW, AdamWOptions>();
    if (name == "SGD") make<SGD, SGDOptions>();
    if (name == "RMSprop") make<RMSprop, RMSpropOptions>();
    if (name == "Adagrad") make<Adagrad, AdagradOptions>();
    if (name == "LBFGS") make<LBFGS, LBFGSOptions>();
    TORCH_CHECK(optimizer_ != nullptr, name);
  }

  template <class Class, class Options>
  void make() {
    Options defaults = [] {
      if constexpr (std::is_default_constructible_v<Options>)
        return Options();
      else
        return Options(1e-3);  // SGD's learning rate has a default in Python only
    }();
    apply(defaults, spec_["defaults"]);
    std::vector<torch::optim::OptimizerParamGroup> groups;
    const Value specs = spec_["groups"];
    for (const Value& group : specs.elements()) {
      std::vector<at::Tensor> params;
      for (const auto& name : group["params"].to<std::vector<std::string>>()) params.push_back(param(name));
      groups.emplace_back(std::move(params));
    }
    optimizer_ = std::make_unique<Class>(groups, defaults);
    for (std::size_t i = 0; i < groups.size(); ++i) {
      const Value options = specs[static_cast<int>(i)]["options"];
      apply(static_cast<Options&>(optimizer_->param_groups()[i].options()), options);
    }
  }

  Value spec_;
  ExchangeNet net_{nullptr};
  std::unique_ptr<torch::optim::Optimizer> optimizer_;
};

}  // namespace torchkeep
