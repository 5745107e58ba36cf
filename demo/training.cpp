// SPDX-License-Identifier: BSD-3-Clause
// One training run: its batches, its model and optimizer, and what one step does.
#include "training.h"

#include <algorithm>
#include <fmt/format.h>
#include <functional>
#include <memory>

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

/// Linear warm-up, then half a cosine down to a tenth.
tk::lr_scheduler::SequentialLR warm_up_and_cosine(torch::optim::Optimizer& optimizer, int64_t steps) {
  using namespace tk::lr_scheduler;
  const int64_t rest = std::max<int64_t>(1, steps - warm_up_steps);
  return SequentialLR(
      optimizer,
      {.schedulers = {LinearLR(optimizer, {.start_factor = 1.0 / warm_up_steps, .total_iters = warm_up_steps}),
                      CosineAnnealingLR(optimizer, {.T_max = rest, .eta_min = final_learning_rate})},
       .milestones = {warm_up_steps}});
}

/// Is saved, and does not come back.
struct Forgotten {
  std::function<tk::Value()> state;

  explicit Forgotten(std::function<tk::Value()> now) : state(std::move(now)) {}
  tk::Value state_dict() const { return state(); }
  void load_state_dict(const tk::Value&) {}
};

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

Training::Training(const Text& text, int64_t steps, uint64_t seed)
    : model_(seeded_model(text, seed)),
      model_options_{{"vocabulary", model_->options().vocabulary},
                     {"context", model_->options().context},
                     {"layers", model_->options().layers},
                     {"heads", model_->options().heads},
                     {"width", model_->options().width}},
      batches_(text, batch_size, model_->options().context, seed),
      optimizer_(parameter_groups(model_), torch::optim::AdamWOptions(peak_learning_rate).betas({0.9, 0.99})),
      scheduler_(warm_up_and_cosine(optimizer_, steps)) {}

void Training::track(tk::Run& run, Resume what) {
  run.track("model", model_);
  run.track("model_options", model_options_);
  if (what == Resume::full) {
    run.track("optimizer", optimizer_);
    run.track("scheduler", scheduler_);
    run.track("data", batches_);
  } else {
    run.track("optimizer", std::make_shared<Forgotten>([this] { return tk::state_dict(optimizer_, *model_); }));
    run.track("scheduler", std::make_shared<Forgotten>([this] { return scheduler_.state_dict(); }));
    run.track("data", std::make_shared<Forgotten>([this] { return batches_.state_dict(); }));
  }
}

double Training::do_step(tk::Run& run) {
  const auto [inputs, targets] = batches_.next();
  auto loss = loss_of(model_, inputs, targets);
  optimizer_.zero_grad();
  loss.backward();
  torch::nn::utils::clip_grad_norm_(model_->parameters(), 1.0);
  run.step(optimizer_);
  scheduler_.step();
  return loss.item<double>();
}

double Training::held_out_loss() {
  torch::NoGradGuard no_grad;
  const auto [inputs, targets] = batches_.held_out();
  model_->eval();
  const auto loss = loss_of(model_, inputs, targets).item<double>();
  model_->train();
  return loss;
}

}  // namespace demo
