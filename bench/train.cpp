// SPDX-License-Identifier: BSD-3-Clause
// What saving costs a training: the demo's language model trains as a tk::Run, saves every so many steps, and tells how
// long each step took, one line of JSON each; then what its saves cost, and memory.
//
//   bench_train MODE OPTIONS.json DIRECTORY      MODE: none, background, counters, copying, blocking
//
// background: what steps behind the gate is hashed and read where it lies. counters: not even hashed. copying: no gate is
// passed, so everything is copied in finish_step(). blocking: not in the background.
#include <chrono>
#include <fstream>
#include <iostream>
#include <nlohmann/json.hpp>

#include <torch/torch.h>

#include <torchkeep/torch.h>

#include "../demo/gpt.h"
#include "memory.h"

namespace {

namespace tk = torchkeep;
using nlohmann::json;
using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point begin) {
  return std::chrono::duration<double>(Clock::now() - begin).count();
}

tk::RunOptions options_of(const std::string& mode, std::int64_t save_every) {
  tk::RunOptions options{.save_every = save_every, .keep_last = 1, .background = mode != "blocking"};
  if (mode == "counters") options.proof = tk::Proof::counters;
  if (mode == "none") {
    options.save_every = 0;
    options.save_seconds = 1e9;
  }
  options.on_event = [](const tk::Event& event) {
    if (event.is_warning()) throw std::runtime_error(event.message);
  };
  return options;
}

struct Training {
  explicit Training(const json& options)
      : batch(options.at("batch")),
        model(demo::GptOptions{.vocabulary = options.at("vocabulary"),
                               .context = options.at("context"),
                               .layers = options.at("layers"),
                               .heads = options.at("heads"),
                               .width = options.at("width")}),
        optimizer(model->parameters(), torch::optim::AdamWOptions(1e-4)) {}

  /// A step on random tokens: what they are costs nothing.
  void step(tk::Run& run, bool passes_gate) {
    const auto& shape = model->options();
    const torch::Tensor tokens = torch::randint(shape.vocabulary, {batch, shape.context + 1}, torch::kInt64);
    optimizer.zero_grad();
    loss = demo::loss_of(model, tokens.slice(1, 0, shape.context), tokens.slice(1, 1));
    loss.backward();
    passes_gate ? run.step(optimizer) : optimizer.step();
  }

  std::int64_t batch;
  demo::Gpt model;
  torch::optim::AdamW optimizer;
  torch::Tensor loss;
};

json to_json(const tk::SaveMetrics& save) {
  return {{"step", save.step},
          {"bytes", save.bytes},
          {"seconds", save.seconds},
          {"blocked_seconds", save.blocked_seconds},
          {"staged_bytes", save.staged_bytes}};
}

void train(const std::string& mode, const json& options, const std::string& directory) {
  at::set_num_threads(options.at("threads"));
  torch::manual_seed(1);
  Training training(options);
  const std::int64_t steps = options.at("steps");
  auto run = tk::Run::open(directory, options_of(mode, options.at("save_every")));
  run.track("model", training.model);
  run.track("optimizer", training.optimizer);
  std::int64_t told = 0;
  for (std::int64_t step = run.resume(); step < steps;) {
    const auto begin = Clock::now();
    training.step(run, mode != "copying");
    const double loss = training.loss.item<double>();
    const double computed = seconds_since(begin);
    run.finish_step(++step, {{"loss", loss}});
    std::cout << json{{"step", step}, {"computed", computed}, {"call", seconds_since(begin) - computed}, {"loss", loss}}
              << std::endl;
    if (run.last_save() && run.last_save()->step != told) {
      told = run.last_save()->step;
      std::cout << json{{"save", to_json(*run.last_save())}} << std::endl;
    }
    if (step == options.at("warm_up")) bench::forget_peak();
  }
  run.wait();
  std::cout << json{{"peak", bench::memory("VmHWM")}} << std::endl;
}

}  // namespace

int main(int count, char** arguments) try {
  if (count != 4) throw std::runtime_error("expected a mode, the file with the options, and a directory");
  json options;
  std::ifstream(arguments[2]) >> options;
  train(arguments[1], options, arguments[3]);
  return 0;
} catch (const std::exception& error) {
  std::cerr << "bench_train: " << error.what() << '\n';
  return 1;
}
