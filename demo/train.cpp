// SPDX-License-Identifier: BSD-3-Clause
// The demo's training process: trains, saves every few steps, and tells what it does as JSON lines on its output.

#include <CLI/CLI.hpp>
#include <chrono>
#include <iostream>
#include <nlohmann/json.hpp>

#include "training.h"

namespace {

namespace fs = std::filesystem;
using nlohmann::json;

constexpr std::size_t smallest_text = 2000;  // bytes; its last tenth must hold a few windows

struct Options {
  fs::path text, out;
  int64_t steps = 800;
  int64_t stop_at = 0;
  int64_t save_every = 40;
  int64_t check_every = 10;
  uint64_t seed = 1;
  int threads = 2;
  demo::Resume mode = demo::Resume::full;
};

/// One event is one line, written at once, so that a reader knows how far a killed process came.
void tell(const json& event) {
  std::cout << event.dump(-1, ' ', false, json::error_handler_t::replace) << std::endl;
}

int64_t number_of_parameters(const demo::Training& training) {
  int64_t total = 0;
  for (const auto& parameter : training.model->parameters()) total += parameter.numel();
  return total;
}

void save(const demo::Training& training, const fs::path& directory) {
  const auto file = demo::checkpoint_path(directory, training.step);
  tell({{"event", "saving"}, {"step", training.step}, {"file", file.filename().string()}});
  const auto begin = std::chrono::steady_clock::now();
  save_checkpoint(training, directory);
  const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - begin;
  tell({{"event", "saved"},
        {"step", training.step},
        {"file", file.filename().string()},
        {"bytes", fs::file_size(file)},
        {"seconds", seconds.count()}});
}

void tell_held_out_loss(demo::Training& training) {
  tell({{"event", "held_out"}, {"step", training.step}, {"loss", training.held_out_loss()}});
}

/// What the final model writes.
void tell_what_was_learnt(demo::Training& training, const demo::Text& text, uint64_t seed) {
  const std::vector<int64_t> prompt(text.tokens.begin(), text.tokens.begin() + 32);
  tell({{"event", "sample"},
        {"prompt", text.decode(prompt)},
        {"text", text.decode(write_on(training.model, prompt, 240, seed))}});
}

void train(const Options& options) {
  at::set_num_threads(options.threads);
  fs::create_directories(options.out);
  const auto text = demo::read_text(options.text, smallest_text);
  demo::Training training(text, options.steps, options.seed);

  const auto resumed = resume(training, options.out, options.mode);
  tell({{"event", "start"},
        {"step", training.step},
        {"file", resumed.file.filename().string()},
        {"refused", resumed.refused},
        {"removed", resumed.removed},
        {"parameters", number_of_parameters(training)}});

  const auto stop = options.stop_at > 0 ? std::min(options.stop_at, options.steps) : options.steps;
  while (training.step < stop) {
    const auto loss = training.do_step();
    tell({{"event", "step"}, {"step", training.step}, {"loss", loss}});
    if (training.step % options.check_every == 0 || training.step == stop) tell_held_out_loss(training);
    if (training.step % options.save_every == 0 || training.step == stop) save(training, options.out);
  }
  if (training.step == options.steps) tell_what_was_learnt(training, text, options.seed);
}

void add_options(CLI::App& app, Options& options) {
  app.add_option("--text", options.text, "file to learn from")->required()->check(CLI::ExistingFile);
  app.add_option("--out", options.out, "directory of the checkpoints")->required();
  app.add_option("--steps", options.steps, "length of the training")->check(CLI::PositiveNumber);
  app.add_option("--stop-at", options.stop_at, "save and exit at this step already");
  app.add_option("--save-every", options.save_every, "steps between checkpoints")->check(CLI::PositiveNumber);
  app.add_option("--check-every", options.check_every, "steps between looks at the held-out text")
      ->check(CLI::PositiveNumber);
  app.add_option("--seed", options.seed, "of the weights, the dropout and the batches");
  app.add_option("--threads", options.threads, "of LibTorch; another number may give other bits");
  app.add_option("--mode", options.mode, "what to take from the newest checkpoint: full or weights-only")
      ->transform(CLI::CheckedTransformer(std::map<std::string, demo::Resume>{
          {"full", demo::Resume::full}, {"weights-only", demo::Resume::weights_only}}));
}

}  // namespace

int main(int argc, char** argv) {
  Options options;
  CLI::App app("Trains a small character language model; started again, it continues where it was.", "demo_train");
  add_options(app, options);
  CLI11_PARSE(app, argc, argv);
  try {
    train(options);
  } catch (const std::exception& error) {
    std::cerr << "demo_train: " << error.what() << '\n';
    return 1;
  }
  return 0;
}
