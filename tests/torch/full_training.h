// SPDX-License-Identifier: BSD-3-Clause
// A training with everything that people lose: dropout, batch normalisation, shuffled data from worker threads, noise
// from a generator of its own, two optimizers, warm-up and cosine, gradient clipping and accumulation.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include <torch/torch.h>

#include <torchkeep/torch.h>

namespace torchkeep::testing {

/// Each sample is computed from its number, so that a wrong or repeated one shows in the weights.
struct Numbers : torch::data::Dataset<Numbers> {
  static constexpr std::size_t kSize = 52;

  torch::data::Example<> get(std::size_t index) override {
    const auto i = static_cast<double>(index);
    const torch::Tensor x = torch::arange(8, torch::kFloat32).mul(0.37 * (i + 1)).sin();
    return {x, torch::full({1}, std::cos(i), torch::kFloat32)};
  }
  torch::optional<std::size_t> size() const override { return kSize; }
};

struct NetImpl : torch::nn::Module {
  NetImpl() {
    body = register_module("body", torch::nn::Sequential(torch::nn::Linear(8, 16), torch::nn::BatchNorm1d(16),
                                                         torch::nn::ReLU(), torch::nn::Dropout(0.3)));
    head = register_module("head", torch::nn::Linear(16, 1));
  }
  torch::Tensor forward(const torch::Tensor& x) { return head->forward(body->forward(x)); }

  torch::nn::Sequential body{nullptr};
  torch::nn::Linear head{nullptr};
};
TORCH_MODULE(Net);

struct FullTrainingOptions {
  std::size_t workers = 2;     ///< threads of the loader; 0: none
  int accumulate = 2;          ///< batches per optimizer step
  bool save_gradients = true;  ///< finish_step() comes after every batch, so some fall between two optimizer steps
  std::uint64_t seed = 1;
};

/// The objects of one process, and its loop.
class FullTraining {
 public:
  explicit FullTraining(const FullTrainingOptions& options = {}) : options_(options) {
    noise_.set_current_seed(options.seed);
  }

  /// Trains in `directory` until `last` batches are done (or until told to stop); returns the exit code.
  int run(const std::string& directory, RunOptions run_options, std::int64_t last, bool finish = true) {
    run_options.gradients = options_.save_gradients;
    Run run = Run::open(directory, run_options);
    track(run);
    auto loading = torch::data::DataLoaderOptions().batch_size(8).workers(options_.workers);
    if (options_.workers > 0) loading.max_jobs(2 * options_.workers + 1);
    auto loader = torch::data::make_data_loader(Numbers().map(torch::data::transforms::Stack<>()), sampler_, loading);
    for (std::int64_t step = run.resume(); step < last && !run.stopping();) {
      for (auto& batch : batches(loader, sampler_)) {
        train_on(run, batch, step + 1);
        if (run.stopping() || ++step == last) break;
      }
    }
    run.wait();  // so that the last step is saved, whichever way its process ends
    if (finish) run.finish();
    return run.exit_code();
  }

 private:
  void track(Run& run) {
    run.track("body_optimizer", adam_);  // before its module: the order of the calls does not matter
    run.track("model", model_);
    run.track("head_optimizer", sgd_);
    run.track("warmup_cosine", cosine_);
    run.track("plateau", decay_);
    run.track("data", sampler_);
    run.track("noise", noise_);
    run.track("smoothed_loss", smoothed_loss_);
  }

  void train_on(Run& run, const torch::data::Example<>& batch, std::int64_t step) {
    model_->train();
    const torch::Tensor noise = torch::randn(batch.data.sizes(), noise_, torch::kFloat32);
    const torch::Tensor loss =
        torch::mse_loss(model_->forward(batch.data + 0.01 * noise), batch.target) / options_.accumulate;
    loss.backward();
    smoothed_loss_ = 0.9 * smoothed_loss_ + 0.1 * loss.item<double>();
    if (step % options_.accumulate == 0) {
      torch::nn::utils::clip_grad_norm_(model_->parameters(), 0.5);
      run.step(adam_);
      run.step(sgd_);
      cosine_.step();
      decay_.step(smoothed_loss_);
      model_->zero_grad();
    }
    run.finish_step(step, {{"loss", loss.item<double>()}, {"smoothed", smoothed_loss_}});
  }

  FullTrainingOptions options_;
  Net model_;
  torch::optim::AdamW adam_{model_->body->parameters(), torch::optim::AdamWOptions(0.02).amsgrad(true)};
  torch::optim::SGD sgd_{model_->head->parameters(), torch::optim::SGDOptions(0.05).momentum(0.9).nesterov(true)};
  lr_scheduler::SequentialLR cosine_ = warmup_cosine();
  lr_scheduler::ReduceLROnPlateau decay_{sgd_, {.factor = 0.5, .patience = 3}};
  ResumableSampler sampler_{Numbers::kSize, {.seed = 7}};
  at::Generator noise_ = at::make_generator<at::CPUGeneratorImpl>();
  double smoothed_loss_ = 0;

  lr_scheduler::SequentialLR warmup_cosine() {
    const lr_scheduler::LinearLR warmup(adam_, {.start_factor = 0.1, .total_iters = 5});
    const lr_scheduler::CosineAnnealingLR cosine(adam_, {.T_max = 30});
    return {adam_, {.schedulers = {warmup, cosine}, .milestones = {5}}};
  }
};

/// A checkpoint without what is about the process that wrote it.
inline Value without_provenance(Value checkpoint) {
  checkpoint.erase("provenance");
  return checkpoint;
}

}  // namespace torchkeep::testing
