// SPDX-License-Identifier: BSD-3-Clause
// What tk::Run warns of because it looks forgotten, and the code of docs/run.md.
#include <gtest/gtest.h>
#include <string>

#include <torch/torch.h>

#include <torchkeep/torch.h>

#include "run_events.h"
#include "support/memory_fs.h"
#include "support/temp_dir.h"

namespace torchkeep {
namespace {

namespace tk = torchkeep;  // in a test, a bare Run is GoogleTest's

using testing::Events;
using testing::MemoryFs;
using testing::TempDir;

TEST(Completeness, NamesTheParametersOfNoTrackedModule) {
  MemoryFs fs;
  Events events;
  torch::nn::Linear model(2, 3);
  const torch::Tensor extra = torch::zeros({4, 5}).requires_grad_();
  torch::optim::SGD sgd({extra, model->weight}, torch::optim::SGDOptions(0.1).momentum(0.9));
  auto run = tk::Run::open("/run", events.options(fs));
  run.track("model", model);
  run.track("sgd", sgd);
  run.resume();
  EXPECT_NE(events.warnings().find("optimizer 'sgd' trains what is in no tracked module"), std::string::npos)
      << events.warnings();
  EXPECT_NE(events.warnings().find("parameter 0 of group 0, shape (4, 5)"), std::string::npos) << events.warnings();
  EXPECT_TRUE(run.save_now()) << "it is saved by order";
}

TEST(Completeness, ATrackedTensorIsNotForgotten) {
  MemoryFs fs;
  Events events;
  torch::Tensor temperature = torch::ones({1}).requires_grad_();
  torch::optim::SGD sgd({temperature}, torch::optim::SGDOptions(0.1));
  auto run = tk::Run::open("/run", events.options(fs));
  run.track("temperature", temperature);
  run.track("sgd", sgd);
  run.resume();
  EXPECT_EQ(events.warnings(), "");
}

TEST(Completeness, NamesTheDropoutsWhenTheGeneratorsAreLeftOut) {
  MemoryFs fs;
  torch::nn::Sequential model(torch::nn::Linear(2, 2), torch::nn::Dropout(0.5), torch::nn::Dropout(0.0),
                              torch::nn::LSTM(torch::nn::LSTMOptions(2, 2).num_layers(2).dropout(0.1)));
  for (const bool rng : {false, true}) {
    Events events;
    auto run = tk::Run::open("/run", events.options(fs, {.rng = rng}));
    run.track("net", model);
    run.resume();
    EXPECT_EQ(events.warnings().find("net.1, net.3") != std::string::npos, !rng) << events.warnings();
  }
}

TEST(Completeness, MissesTheSchedulerOfAnOptimizer) {
  MemoryFs fs;
  torch::nn::Linear model(2, 2);
  torch::optim::SGD sgd(model->parameters(), torch::optim::SGDOptions(0.1));
  lr_scheduler::StepLR scheduler(sgd, {.step_size = 2});
  for (const bool tracked : {false, true}) {
    Events events;
    auto run = tk::Run::open("/run", events.options(fs));
    run.track("model", model);
    run.track("sgd", sgd);
    if (tracked) run.track("scheduler", scheduler);
    run.resume();
    EXPECT_EQ(events.warnings().find("'sgd' has an initial_lr") != std::string::npos, !tracked) << events.warnings();
  }
}

TEST(Completeness, WarnsOnceOfAnUntrackedOptimizerThatSteps) {
  MemoryFs fs;
  Events events;
  torch::nn::Linear model(2, 2);
  torch::optim::SGD sgd(model->parameters(), torch::optim::SGDOptions(0.1));
  auto run = tk::Run::open("/run", events.options(fs));
  run.track("model", model);
  run.resume();
  run.step(sgd);
  run.step(sgd);
  const std::string warnings = events.warnings();
  EXPECT_NE(warnings.find("an optimizer that is not tracked"), std::string::npos);
  EXPECT_EQ(warnings.find("not tracked"), warnings.rfind("not tracked"));
}

TEST(Completeness, WarnsOnceOfASamplerThatNobodyAdvances) {
  MemoryFs fs;
  Events events;
  ResumableSampler sampler(10);
  auto run = tk::Run::open("/run", events.options(fs));
  run.track("data", sampler);
  std::int64_t step = run.resume();
  run.finish_step(++step);
  EXPECT_EQ(events.warnings(), "");
  sampler.next(4);
  run.finish_step(++step);
  run.finish_step(++step);
  EXPECT_NE(events.warnings().find("'data' drew samples, but nothing says which were used"), std::string::npos);
  EXPECT_EQ(events.all.size(), 2U) << "started, and the warning once";
}

TEST(Completeness, TellsWhichArgumentsOfASchedulerTheCheckpointReplaces) {
  MemoryFs fs;
  torch::nn::Linear model(2, 2);
  torch::optim::SGD sgd(model->parameters(), torch::optim::SGDOptions(0.1));
  const auto process = [&](std::int64_t step_size, Events& events) {
    lr_scheduler::StepLR scheduler(sgd, {.step_size = step_size});
    auto run = tk::Run::open("/run", events.options(fs));
    run.track("model", model);
    run.track("sgd", sgd);
    run.track("scheduler", scheduler);
    run.resume();
    run.save_now();
  };
  Events first, second;
  process(2, first);
  process(3, second);
  EXPECT_NE(second.warnings().find("'scheduler': step_size is 3 here and 2 in the checkpoint, which is used"),
            std::string::npos)
      << second.warnings();
}

// ---- docs/run.md; tests/examples/test_docs.py compares the code there with this

struct Line : torch::data::Dataset<Line> {
  torch::data::Example<> get(std::size_t index) override {
    const torch::Tensor x = torch::full({1}, static_cast<float>(index));
    return {x, 2 * x};
  }
  torch::optional<std::size_t> size() const override { return 40; }
};

TEST(RunDocs, ALoopOverALoader) {
  const TempDir folder;
  const auto process = [&](int64_t last_step) {
    torch::nn::Linear model(1, 1);
    torch::optim::SGD sgd(model->parameters(), torch::optim::SGDOptions(1e-4).momentum(0.9));
    const auto train_on = [&](const torch::data::Example<>& batch) {
      sgd.zero_grad();
      torch::mse_loss(model->forward(batch.data), batch.target).backward();
    };
    auto dataset = Line().map(torch::data::transforms::Stack<>());
    auto run = tk::Run::open(folder / "run", {.save_every = 3, .on_event = [](const tk::Event&) {}});
    run.track("model", model);
    run.track("optimizer", sgd);

    tk::ResumableSampler sampler(dataset.size().value(), {.seed = 7});
    run.track("data", sampler);
    auto loader =
        torch::data::make_data_loader(dataset, sampler, torch::data::DataLoaderOptions().batch_size(8).workers(2));
    for (int64_t step = run.resume(); step < last_step && !run.stopping();) {
      for (auto& batch : tk::batches(loader, sampler)) {
        train_on(batch);
        run.step(sgd);
        run.finish_step(++step);
        if (run.stopping() || step == last_step) break;
      }
    }
    run.finish();
    EXPECT_EQ(run.exit_code(), 0);
    return model->weight.item<float>();
  };
  process(7);
  EXPECT_EQ(process(12), process(12)) << "the third process has nothing left to do";
  EXPECT_EQ(tk::load(tk::find_checkpoint(folder / "run", "last"))["data"]["epoch"].to<int>(), 2);
}

TEST(RunDocs, OptionsAndLookingIntoADirectory) {
  const TempDir folder;
  const std::string directory = folder / "run";
  torch::nn::Linear model(1, 1);
  std::string log;
  const auto say = [&](const std::string& line) { log += line + "\n"; };
  {
    auto run = tk::Run::open(directory, {.save_every = 500,
                                         .save_seconds = 600,
                                         .keep_last = 2,
                                         .keep_every = 10'000,
                                         .keep_best = 1,
                                         .best_metric = "loss",
                                         .on_event = [&](const tk::Event& event) { say(event.message); }});
    run.track("model", model);
    for (int64_t step = run.resume(); step < 3000;) {
      step += 500;
      run.finish_step(step, {{"loss", std::abs(static_cast<double>(step) - 1000)}});
    }
    run.wait();
  }
  const auto before = tk::list_checkpoints(directory);
  EXPECT_EQ(before.size(), 3U);
  EXPECT_NE(log.find("saved"), std::string::npos);

  const tk::Value best = tk::load(tk::find_checkpoint(directory, "best"));
  tk::load_state_dict(*model, best["model"]);
  tk::pin_checkpoint(directory, best["step"].to<int64_t>());

  EXPECT_EQ(best["step"].to<int64_t>(), 1000);
  EXPECT_TRUE(tk::list_checkpoints(directory).front().pinned);
}

}  // namespace
}  // namespace torchkeep
