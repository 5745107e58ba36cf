// SPDX-License-Identifier: BSD-3-Clause
// One training run: its batches, its model and optimizer, and what one step does.
#include "training.h"

#include <cmath>
#include <fmt/format.h>
#include <numbers>

#include <ATen/CPUGeneratorImpl.h>

#include <torchkeep/torch.h>

namespace demo {

namespace tk = torchkeep;

namespace {

constexpr int64_t batch_size = 16;
constexpr double peak_learning_rate = 3e-3;
constexpr double final_learning_rate = 3e-4;
constexpr int64_t warm_up_steps = 40;
constexpr double weight_decay = 0.1;

Gpt seeded_model(const Text& text, uint64_t seed) {
  torch::manual_seed(seed);
  return Gpt(GptOptions{.vocabulary = static_cast<int64_t>(text.vocabulary.size())});
}

/// Two groups, as is usual for GPTs: matrices decay, biases and norms do not.
std::vector<torch::optim::OptimizerParamGroup> parameter_groups(Gpt& model) {
  std::vector<torch::Tensor> matrices, vectors;
  for (auto& parameter : model->parameters()) (parameter.dim() >= 2 ? matrices : vectors).push_back(parameter);
  auto group = [](std::vector<torch::Tensor> parameters, double decay) {
    return torch::optim::OptimizerParamGroup(
        std::move(parameters),
        std::make_unique<torch::optim::AdamWOptions>(
            torch::optim::AdamWOptions(peak_learning_rate).betas({0.9, 0.99}).weight_decay(decay)));
  };
  return {group(std::move(matrices), weight_decay), group(std::move(vectors), 0.0)};
}

}  // namespace

Batches::Batches(const Text& text, int64_t size, int64_t context, uint64_t seed)
    : tokens_(torch::tensor(text.tokens)),
      text_crc32_(text.crc32),
      size_(size),
      context_(context),
      learnt_(tokens_.size(0) / 10 * 9),
      generator_(at::make_generator<at::CPUGeneratorImpl>(seed)) {}

Batches::Batch Batches::next() {
  return windows_at(torch::randint(0, learnt_ - context_, {size_, 1}, generator_, torch::kInt64));
}

Batches::Batch Batches::held_out() const {
  const int64_t count = 32;
  const int64_t apart = (tokens_.size(0) - learnt_ - context_ - 1) / count;
  return windows_at(learnt_ + torch::arange(count).unsqueeze(1) * apart);
}

Batches::Batch Batches::windows_at(const torch::Tensor& starts) const {
  const auto windows = tokens_.index({starts + torch::arange(context_ + 1)});
  return {windows.slice(1, 0, context_), windows.slice(1, 1)};
}

tk::Value Batches::state_dict() const {
  return {{"generator", tk::rng_state(generator_)}, {"text_bytes", tokens_.size(0)}, {"text_crc32", text_crc32_}};
}

void Batches::load_state_dict(const tk::Value& state) {
  const auto bytes = state["text_bytes"].to<int64_t>();
  const auto crc32 = state["text_crc32"].to<uint32_t>();
  if (bytes != tokens_.size(0) || crc32 != text_crc32_) {
    state.fail(tk::Code::mismatch,
               fmt::format("the run learns from a text of {} bytes with CRC-32 {:08x}, this one has {} bytes and "
                           "{:08x}: continue with the same text, or start in another directory",
                           bytes, crc32, tokens_.size(0), text_crc32_));
  }
  tk::load_rng_state(generator_, state["generator"]);
}

void Schedule::apply(torch::optim::Optimizer& optimizer) {
  double rate = peak_learning_rate * static_cast<double>(position_ + 1) / warm_up_steps;
  if (position_ >= warm_up_steps) {
    const double progress =
        static_cast<double>(position_ - warm_up_steps) / static_cast<double>(steps_ - warm_up_steps);
    rate = final_learning_rate +
           (peak_learning_rate - final_learning_rate) * 0.5 * (1 + std::cos(std::numbers::pi * progress));
  }
  for (auto& group : optimizer.param_groups()) group.options().set_lr(rate);
  ++position_;
}

tk::Value Schedule::state_dict() const {
  return {{"position", position_}};
}

void Schedule::load_state_dict(const tk::Value& state) {
  position_ = state["position"].to<int64_t>();
}

Training::Training(const Text& text, int64_t steps, uint64_t seed)
    : model(seeded_model(text, seed)),
      batches(text, batch_size, model->options().context, seed),
      optimizer(parameter_groups(model), torch::optim::AdamWOptions(peak_learning_rate).betas({0.9, 0.99})),
      schedule(steps) {}

double Training::do_step() {
  const auto [inputs, targets] = batches.next();
  auto loss = loss_of(model, inputs, targets);
  optimizer.zero_grad();
  loss.backward();
  torch::nn::utils::clip_grad_norm_(model->parameters(), 1.0);
  schedule.apply(optimizer);
  optimizer.step();
  ++step;
  return loss.item<double>();
}

double Training::held_out_loss() {
  torch::NoGradGuard no_grad;
  const auto [inputs, targets] = batches.held_out();
  model->eval();
  const auto loss = loss_of(model, inputs, targets).item<double>();
  model->train();
  return loss;
}

}  // namespace demo
