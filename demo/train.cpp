// SPDX-License-Identifier: BSD-3-Clause
// The demo's training process: trains as a tk::Run, and tells what it does as JSON lines on its output.

#include <CLI/CLI.hpp>
#include <cstdlib>
#include <filesystem>
#include <iostream>
#include <nlohmann/json.hpp>

#include "training.h"

namespace {

namespace fs = std::filesystem;
namespace tk = torchkeep;
using nlohmann::json;

constexpr std::size_t smallest_text = 2000;  // bytes; its last tenth must hold a few windows

struct Options {
  fs::path text, out;
  int64_t steps = 800;
  int64_t stop_at = 0;
  int64_t save_every = 40;
  int64_t check_every = 10;
  bool save_again = false;
  uint64_t seed = 1;
  int threads = 2;
  demo::Resume mode = demo::Resume::full;
};

/// One event is one line, written at once, so that a reader knows how far a killed process came.
void tell(const json& event) {
  std::cout << event.dump(-1, ' ', false, json::error_handler_t::replace) << std::endl;
}

int64_t number_of_parameters(demo::Training& training) {
  int64_t total = 0;
  for (const auto& parameter : training.model()->parameters()) total += parameter.numel();
  return total;
}

std::string name_of(const std::string& file) {
  return fs::path(file).filename().string();
}

/// How the run came back, told with the first event.
struct Start {
  std::string file;
  std::vector<std::string> refused;
  uint64_t removed = 0;
};

void listen(const tk::Event& event, Start& start) {
  using Kind = tk::Event::Kind;
  if (event.kind == Kind::cleaned) start.removed = event.count;
  if (event.kind == Kind::set_aside) start.refused.push_back(event.message);
  if (event.kind == Kind::resumed || event.kind == Kind::finished) start.file = name_of(event.path);
  if (event.kind == Kind::saved) {
    tell({{"event", "saved"}, {"step", event.step}, {"bytes", event.bytes}, {"seconds", event.seconds}});
  }
  if (event.kind == Kind::warning || event.kind == Kind::save_failed) {
    tell({{"event", "warning"}, {"message", event.message}});
  }
}

void tell_held_out_loss(demo::Training& training, int64_t step) {
  tell({{"event", "held_out"}, {"step", step}, {"loss", training.held_out_loss()}});
}

/// What the final model writes.
void tell_what_was_learnt(demo::Training& training, const demo::Text& text, uint64_t seed) {
  const std::vector<int64_t> prompt(text.tokens.begin(), text.tokens.begin() + 32);
  tell({{"event", "sample"},
        {"prompt", text.decode(prompt)},
        {"text", text.decode(write_on(training.model(), prompt, 240, seed))}});
}

int train(const Options& options) {
  at::set_num_threads(options.threads);
  const auto text = demo::read_text(options.text, smallest_text);
  demo::Training training(text, options.steps, options.seed);
  Start start;
  auto run = tk::Run::open(options.out, {.save_every = options.save_every,
                                         .keep_last = 3,
                                         .rng = options.mode == demo::Resume::full,
                                         .on_event = [&start](const tk::Event& event) { listen(event, start); }});
  training.track(run, options.mode);

  int64_t step = run.resume();
  tell({{"event", "start"},
        {"step", step},
        {"file", start.file},
        {"refused", start.refused},
        {"removed", start.removed},
        {"parameters", number_of_parameters(training)}});
  if (options.save_again) {
    run.finish_step(step + 1);
    return run.save_now() ? EXIT_SUCCESS : run.exit_code();
  }
  const auto stop = options.stop_at > 0 ? std::min(options.stop_at, options.steps) : options.steps;
  while (step < stop && !run.stopping()) {
    const auto loss = training.do_step(run);
    tell({{"event", "step"}, {"step", ++step}, {"loss", loss}});
    if (step % options.check_every == 0 || step == stop) tell_held_out_loss(training, step);
    run.finish_step(step, {{"loss", loss}});
  }
  run.finish();
  if (step == options.steps) tell_what_was_learnt(training, text, options.seed);
  return run.exit_code();
}

void add_options(CLI::App& app, Options& options) {
  app.add_option("--text", options.text, "file to learn from")->required()->check(CLI::ExistingFile);
  app.add_option("--out", options.out, "directory of the checkpoints")->required();
  app.add_option("--steps", options.steps, "length of the training")->check(CLI::PositiveNumber);
  app.add_option("--stop-at", options.stop_at, "save and exit at this step already");
  app.add_flag("--save-again", options.save_again, "save what was found as the next step, and exit without training");
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
    return train(options);
  } catch (const std::exception& error) {
    std::cerr << "demo_train: " << error.what() << '\n';
    return 1;
  }
}
