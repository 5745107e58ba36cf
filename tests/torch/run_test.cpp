// SPDX-License-Identifier: BSD-3-Clause
// tk::Run: what can be tracked, what is in a checkpoint, and loops over loaders.
#include <gtest/gtest.h>
#include <string>

#include <torch/torch.h>

#include <torchkeep/torch.h>

#include "run_events.h"
#include "support/expect_error.h"
#include "support/memory_fs.h"

namespace torchkeep {
namespace {

namespace tk = torchkeep;  // in a test, a bare Run is GoogleTest's

using testing::Events;
using testing::MemoryFs;

/// Saves what `setup` tracks in one run, disturbs it, resumes in another.
template <class Setup, class Disturb>
void save_and_resume(MemoryFs& fs, Setup setup, Disturb disturb) {
  {
    Events events;
    auto run = tk::Run::open("/run", events.options(fs));
    setup(run);
    run.resume();
    EXPECT_TRUE(run.save_now()) << events.warnings();
  }
  disturb();
  Events events;
  auto run = tk::Run::open("/run", events.options(fs, {.resume = Resume::required}));
  setup(run);
  run.resume();
}

// ---- what can be tracked

TEST(Track, ModulesAsHolderPointerAndReference) {
  MemoryFs fs;
  torch::nn::Linear holder(2, 2);
  const auto shared = std::make_shared<torch::nn::LinearImpl>(2, 2);
  torch::nn::LinearImpl plain(2, 2);
  const torch::Tensor a = holder->weight.clone(), b = shared->weight.clone(), c = plain.weight.clone();
  save_and_resume(
      fs,
      [&](tk::Run& run) {
        run.track("holder", holder);
        run.track("shared", shared);
        run.track("plain", plain);
      },
      [&] {
        const torch::NoGradGuard no_grad;
        for (torch::Tensor* weight : {&holder->weight, &shared->weight, &plain.weight}) weight->zero_();
      });
  EXPECT_TRUE(torch::equal(holder->weight, a) && torch::equal(shared->weight, b) && torch::equal(plain.weight, c));
}

TEST(Track, AModuleLivesAsLongAsTheRun) {
  MemoryFs fs;
  Events events;
  auto run = tk::Run::open("/run", events.options(fs));
  run.track("model", torch::nn::Linear(2, 2));
  run.resume();
  EXPECT_TRUE(run.save_now());
}

struct Counter {
  int count = 0;
  Value state_dict() const { return {{"count", count}}; }
  void load_state_dict(const Value& state) { count = state["count"].to<int>(); }
};

TEST(Track, ObjectsWithAStateNumbersTextsListsAndTensors) {
  MemoryFs fs;
  Counter counter{3};
  const auto shared = std::make_shared<Counter>(Counter{4});
  std::int64_t epoch = 5;
  double best = 0.25;
  std::string note = "first";
  std::vector<double> history{1, 2};
  torch::Tensor average = torch::full({3}, 7.0);
  const torch::Tensor alias = average;
  ResumableSampler sampler(10, {.shuffle = false});
  sampler.take(6);
  at::Generator generator = at::make_generator<at::CPUGeneratorImpl>(11);
  const torch::Tensor state = generator.get_state();
  save_and_resume(
      fs,
      [&](tk::Run& run) {
        run.track("counter", counter);
        run.track("shared", shared);
        run.track("epoch", epoch);
        run.track("best", best);
        run.track("note", note);
        run.track("history", history);
        run.track("average", average);
        run.track("data", sampler);
        run.track("generator", generator);
      },
      [&] {
        counter.count = shared->count = 0;
        epoch = 0;
        best = 1;
        note = "";
        history.clear();
        average.zero_();
        sampler = ResumableSampler(10, {.shuffle = false});
        torch::rand({5}, generator);
      });
  EXPECT_EQ(counter.count, 3);
  EXPECT_EQ(shared->count, 4);
  EXPECT_EQ(epoch, 5);
  EXPECT_EQ(best, 0.25);
  EXPECT_EQ(note, "first");
  EXPECT_EQ(history, (std::vector<double>{1, 2}));
  EXPECT_TRUE(torch::equal(alias, torch::full({3}, 7.0))) << "restored in place";
  EXPECT_EQ(sampler.remaining(), 4U);
  EXPECT_TRUE(torch::equal(generator.get_state(), state));
}

TEST(Track, OptimizerParametersAreNamedAfterTheirModules) {
  MemoryFs fs;
  Events events;
  torch::nn::Linear encoder(2, 2), decoder(2, 2);
  std::vector<torch::Tensor> parameters = encoder->parameters();
  for (const torch::Tensor& parameter : decoder->parameters()) parameters.push_back(parameter);
  torch::optim::Adam adam(parameters, torch::optim::AdamOptions(0.1));
  auto run = tk::Run::open("/run", events.options(fs));
  run.track("optimizer", adam);
  run.track("encoder", encoder);
  run.track("decoder", decoder);
  run.resume();
  run.save_now();
  const Value names = load("/run/step-00000000.pt", {.fs = &fs})["optimizer"]["param_names"][0];
  EXPECT_EQ(names.to<std::vector<std::string>>(),
            (std::vector<std::string>{"encoder.weight", "encoder.bias", "decoder.weight", "decoder.bias"}));
  EXPECT_EQ(events.warnings(), "");
}

/// The warnings of a program that resumes the run of `/run` with this optimizer over `net`.
template <class Optimizer>
std::string told(MemoryFs& fs, torch::nn::Linear& net, Optimizer optimizer, int steps = 0) {
  Events events;
  auto run = tk::Run::open("/run", events.options(fs, {.save_every = 1, .background = false}));
  run.track("net", net);
  run.track("optimizer", optimizer);
  for (std::int64_t step = run.resume(), end = step + steps; step < end;) {
    net->forward(torch::ones({1, 2})).sum().backward();
    run.step(optimizer);
    run.finish_step(++step);
  }
  return events.warnings();
}

TEST(Track, WhatAProgramAsksForAndTheCheckpointOverridesIsSaidByName) {
  using torch::optim::AdamW;
  using torch::optim::AdamWOptions;
  MemoryFs fs;
  torch::nn::Linear net(2, 2);
  EXPECT_EQ(told(fs, net, AdamW(net->parameters(), AdamWOptions(0.1).weight_decay(0.5)), 2), "");
  EXPECT_EQ(told(fs, net, AdamW(net->parameters(), AdamWOptions(0.1).weight_decay(0.5)), 1), "");
  const std::string expected =
      "'optimizer': lr is 0.25 here and 0.1 in the checkpoint, which is used\n"
      "'optimizer': weight_decay is 0.01 here and 0.5 in the checkpoint, which is used\n";
  EXPECT_EQ(told(fs, net, AdamW(net->parameters(), AdamWOptions(0.25)), 1), expected);
  EXPECT_EQ(told(fs, net, AdamW(net->parameters(), AdamWOptions(0.25))), expected);  // the second start too
}

TEST(Track, ARateThatTheLoopMovesIsNotTakenForAnotherOneAskedFor) {
  MemoryFs fs;
  torch::nn::Linear net(2, 2);
  for (int i = 0; i < 2; ++i) {
    Events events;
    torch::optim::SGD sgd(net->parameters(), torch::optim::SGDOptions(0.1));
    auto run = tk::Run::open("/run", events.options(fs, {.save_every = 1, .background = false}));
    run.track("net", net);
    run.track("optimizer", sgd);
    const std::int64_t step = run.resume();
    sgd.param_groups()[0].options().set_lr(0.05);
    run.finish_step(step + 1);
    EXPECT_EQ(events.warnings(), "");
  }
}

TEST(Track, AnotherOptimizersStateAndOneWithoutNamesAreSaid) {
  MemoryFs fs;
  torch::nn::Linear net(2, 2);
  told(fs, net, torch::optim::AdamW(net->parameters()), 1);
  const std::string path = "/run/step-00000001.pt";
  Value checkpoint = load(path, {.fs = &fs});
  Value optimizer = checkpoint["optimizer"];
  optimizer.erase("param_names");
  checkpoint.set("optimizer", optimizer);
  Value provenance = checkpoint["provenance"];
  provenance.set("tracked", Value{{"optimizer", Value{{"class", "torch.optim.radam:RAdam"}}}});
  checkpoint.set("provenance", provenance);
  save(checkpoint, path, {.fs = &fs});
  EXPECT_EQ(told(fs, net, torch::optim::AdamW(net->parameters())),
            "'optimizer': the optimizer is AdamW here and RAdam in the checkpoint, whose state is used\n"
            "'optimizer': its state is matched by the order of the parameters: the checkpoint has no names for them\n");
}

TEST(Track, AnotherClassOfASchedulerIsSaid) {
  using namespace lr_scheduler;
  MemoryFs fs;
  torch::nn::Linear net(2, 2);
  const auto said = [&](auto make) {
    Events events;
    torch::optim::SGD sgd(net->parameters(), torch::optim::SGDOptions(0.1));
    auto schedule = make(sgd);
    auto run = tk::Run::open("/run", events.options(fs));
    run.track("net", net);
    run.track("optimizer", sgd);
    run.track("scheduler", schedule);
    if (run.resume() == 0) run.save_now();
    return events.warnings();
  };
  const auto half = [](std::int64_t) { return 0.5; };
  const auto multiplicative = [&](auto& sgd) { return MultiplicativeLR(sgd, {.lr_lambda = half}); };
  EXPECT_EQ(said(multiplicative), "");
  EXPECT_EQ(said(multiplicative), "");
  EXPECT_EQ(said([&](auto& sgd) { return LambdaLR(sgd, {.lr_lambda = half}); }),
            "'scheduler': the scheduler is LambdaLR here and MultiplicativeLR in the checkpoint, which is used\n");
}

TEST(Track, AnotherSeedOfASamplerIsSaid) {
  MemoryFs fs;
  for (const std::uint64_t seed : {1, 2}) {
    Events events;
    auto run = tk::Run::open("/run", events.options(fs));
    ResumableSampler sampler(8, {.seed = seed});
    run.track("data", sampler);
    if (run.resume() == 0) run.save_now();
    const bool is_first = seed == 1;
    EXPECT_EQ(events.warnings(), is_first ? "" : "'data': seed is 2 here and 1 in the checkpoint, which is used\n");
  }
}

TEST(Track, AStepWithAClosureReturnsItsLoss) {
  MemoryFs fs;
  Events events;
  torch::nn::Linear model(2, 1);
  torch::optim::LBFGS lbfgs(model->parameters(), torch::optim::LBFGSOptions(0.1).max_iter(1));
  auto run = tk::Run::open("/run", events.options(fs));
  run.track("model", model);
  run.track("lbfgs", lbfgs);
  run.resume();
  double first = 0;
  const torch::Tensor loss = run.step(lbfgs, [&] {
    lbfgs.zero_grad();
    torch::Tensor now = model->forward(torch::ones({1, 2})).square().sum();
    now.backward();
    if (first == 0) first = now.item<double>();
    return now;
  });
  EXPECT_EQ(loss.item<double>(), first);
  EXPECT_LT(model->forward(torch::ones({1, 2})).square().sum().item<double>(), first);
  EXPECT_EQ(events.warnings(), "");
}

TEST(Track, RefusesTheNamesOfOtherEntriesAndEmptyHandles) {
  MemoryFs fs;
  Events events;
  auto run = tk::Run::open("/run", events.options(fs));
  torch::nn::Linear model(2, 2);
  for (const char* name : {"rng", "gradients", "step", "metrics", "provenance"}) {
    EXPECT_ERROR(run.track(name, model), Code::invalid_argument, "is an entry of every checkpoint");
  }
  run.track("model", model);
  EXPECT_ERROR(run.track("model", model), Code::invalid_argument, "two objects are tracked as 'model'");
  EXPECT_ERROR(run.track("none", std::shared_ptr<torch::nn::LinearImpl>()), Code::invalid_argument, "is empty");
  EXPECT_ERROR(run.track("none", std::shared_ptr<torch::optim::SGD>()), Code::invalid_argument, "is empty");
}

TEST(Track, NothingIsAnError) {
  MemoryFs fs;
  Events events;
  EXPECT_ERROR(tk::Run::open("/run", events.options(fs)).resume(), Code::invalid_argument, "nothing is tracked");
}

// ---- the checkpoint

TEST(RunCheckpoint, HoldsTheGeneratorsAndWhereItComesFrom) {
  MemoryFs fs;
  Events events;
  auto run = tk::Run::open("/run", events.options(fs));
  torch::nn::Linear model(2, 2);
  run.track("model", model);
  run.resume();
  run.save_now();
  const Value checkpoint = load("/run/step-00000000.pt", {.fs = &fs});
  EXPECT_EQ(checkpoint["rng"]["torch"].as_tensor().sizes, std::vector<std::int64_t>{5056});
  EXPECT_EQ(checkpoint["provenance"]["pytorch"].to<std::string>(), TORCH_VERSION);
  EXPECT_FALSE(checkpoint.contains("gradients"));
}

TEST(RunCheckpoint, EverythingThatDoesNotFitIsListedAndNothingIsChanged) {
  MemoryFs fs;
  {
    Events events;
    auto run = tk::Run::open("/run", events.options(fs));
    torch::nn::Linear model(2, 2);
    torch::optim::Adam adam(model->parameters(), torch::optim::AdamOptions(0.1));
    run.track("model", model);
    run.track("optimizer", adam);
    run.resume();
    run.save_now();
  }
  Events events;
  auto run = tk::Run::open("/run", events.options(fs));
  torch::nn::Linear good(2, 2), model(2, 3);
  torch::optim::SGD sgd(model->parameters(), torch::optim::SGDOptions(0.1));
  run.track("model", model);
  run.track("optimizer", sgd);
  const torch::Tensor before = model->weight.clone();
  try {
    run.resume();
    FAIL();
  } catch (const Error& error) {
    const std::string what = error.what();
    for (const char* part : {"nothing was changed", "model: ", "optimizer: ", "weight: shape (2, 2) in the file"}) {
      EXPECT_NE(what.find(part), std::string::npos) << part << " in " << what;
    }
  }
  EXPECT_TRUE(torch::equal(model->weight, before));
}

TEST(RunCheckpoint, OfAnotherNumberOfDevicesIsRefusedUnlessToldOtherwise) {
  MemoryFs fs;
  torch::nn::Linear model(2, 2);
  const auto resume = [&](bool any_devices) {
    Events events;
    auto run = tk::Run::open("/run", events.options(fs, {.any_devices = any_devices}));
    run.track("model", model);
    const std::int64_t step = run.resume();
    if (step == 0) run.finish_step(1), run.save_now();
  };
  resume(false);
  Value checkpoint = load("/run/step-00000001.pt", {.fs = &fs});
  Value rng = checkpoint["rng"];
  Value devices = rng.find("cuda").value_or(Value(List{}));
  devices.append(rng["torch"]);
  rng.set("cuda", devices);
  checkpoint.set("rng", rng);
  save(checkpoint, "/run/step-00000001.pt", {.fs = &fs});
  EXPECT_ERROR(resume(false), Code::mismatch, "CUDA generators in the file");
  EXPECT_NO_THROW(resume(true));
}

TEST(RunCheckpoint, AResumeThatFailedCanBeRepeated) {
  MemoryFs fs;
  torch::nn::Linear model(2, 2);
  Events events;
  auto run = tk::Run::open("/run", events.options(fs, {.resume = Resume::required}));
  run.track("model", model);
  for (int i = 0; i < 2; ++i) EXPECT_ERROR(run.resume(), Code::not_found, "no checkpoint to resume from");
}

struct Unwilling {
  bool willing = true;
  Value state_dict() const {
    if (!willing) throw std::runtime_error("not now");
    return Value(1);
  }
  void load_state_dict(const Value&) {}
};

TEST(RunCheckpoint, AStateThatCannotBeTakenIsAFailedSave) {
  MemoryFs fs;
  Events events;
  Unwilling object;
  auto run = tk::Run::open("/run", events.options(fs, {.save_every = 1}));
  run.track("object", object);
  run.resume();
  object.willing = false;
  EXPECT_NO_THROW(run.finish_step(1));
  EXPECT_NE(events.warnings().find("step 1 could not be saved: the state could not be taken: not now"),
            std::string::npos)
      << events.warnings();
  object.willing = true;
  EXPECT_TRUE(run.save_now());
}

TEST(RunCheckpoint, GradientsAreRestoredAndAbsentOnesRemoved) {
  MemoryFs fs;
  torch::nn::Linear model(2, 1);
  const auto process = [&](bool save) {
    Events events;
    auto run = tk::Run::open("/run", events.options(fs, {.gradients = true}));
    run.track("model", model);
    run.resume();
    if (save) run.save_now();
    EXPECT_EQ(events.warnings(), "");
  };
  model->weight.mutable_grad() = torch::full({1, 2}, 3.0);
  process(true);
  model->weight.mutable_grad() = torch::zeros({1, 2});
  model->bias.mutable_grad() = torch::ones({1});
  process(false);
  EXPECT_TRUE(torch::equal(model->weight.grad(), torch::full({1, 2}, 3.0)));
  EXPECT_FALSE(model->bias.grad().defined());
}

TEST(RunCheckpoint, WithoutGradientsIsAWarningWhenTheyAreAskedFor) {
  MemoryFs fs;
  torch::nn::Linear model(2, 1);
  const auto process = [&](bool gradients, Events& events) {
    auto run = tk::Run::open("/run", events.options(fs, {.gradients = gradients}));
    run.track("model", model);
    run.resume();
    run.save_now();
  };
  Events first, second;
  process(false, first);
  process(true, second);
  EXPECT_NE(second.warnings().find("has no state of 'gradients'"), std::string::npos) << second.warnings();
}

// ---- loaders

using torch::data::DataLoaderOptions;

struct Count : torch::data::Dataset<Count, std::size_t> {
  std::size_t get(std::size_t index) override { return index; }
  torch::optional<std::size_t> size() const override { return 20; }
};

TEST(BatchesLoop, CountsWhatTheLoopTookNotWhatTheLoaderDrew) {
  ResumableSampler sampler(20, {.shuffle = false});
  auto loader =
      torch::data::make_data_loader(Count(), sampler, DataLoaderOptions().batch_size(3).workers(2).max_jobs(4));
  std::size_t taken = 0;
  for (auto& batch : batches(loader, sampler)) {
    EXPECT_EQ(batch.front(), taken);
    taken += batch.size();
    EXPECT_EQ(sampler.remaining(), 20 - taken);
  }
  EXPECT_EQ(taken, 20U);
}

TEST(BatchesLoop, ContinuesInTheMiddleOfAnEpoch) {
  ResumableSampler sampler(20, {.seed = 3});
  auto loader = torch::data::make_data_loader(Count(), sampler, DataLoaderOptions().batch_size(3).workers(2));
  std::vector<std::size_t> seen;
  for (auto& batch : batches(*loader, sampler)) {
    seen.insert(seen.end(), batch.begin(), batch.end());
    if (seen.size() == 9) break;
  }
  ResumableSampler second(20);
  second.load_state_dict(sampler.state_dict());
  auto next = torch::data::make_data_loader(Count(), second, DataLoaderOptions().batch_size(3).workers(1));
  for (auto& batch : batches(*next, second)) seen.insert(seen.end(), batch.begin(), batch.end());
  ResumableSampler whole(20, {.seed = 3});
  EXPECT_EQ(seen, whole.take(20));
}

TEST(BatchesLoop, LeavesTheSamplesOfADroppedLastBatchOut) {
  ResumableSampler sampler(20, {.shuffle = false});
  auto loader = torch::data::make_data_loader(Count(), sampler, DataLoaderOptions().batch_size(8).drop_last(true));
  for (int epoch = 0; epoch < 2; ++epoch) {
    std::size_t count = 0;
    for (auto& batch : batches(*loader, sampler)) count += batch.size();
    EXPECT_EQ(count, 16U);
    EXPECT_EQ(sampler.epoch(), static_cast<std::uint64_t>(epoch));
  }
}

TEST(BatchesLoop, RefusesAnUnorderedOrLosingLoaderAndAStrangersSampler) {
  ResumableSampler sampler(20), other(20);
  auto unordered =
      torch::data::make_data_loader(Count(), sampler, DataLoaderOptions().workers(2).enforce_ordering(false));
  EXPECT_ERROR(batches(*unordered, sampler), Code::invalid_argument, "enforce_ordering");
  auto single = torch::data::make_data_loader(Count(), sampler, DataLoaderOptions().workers(1).enforce_ordering(false));
  EXPECT_NO_THROW(batches(*single, sampler));
  auto losing = torch::data::make_data_loader(Count(), sampler, DataLoaderOptions().workers(0).max_jobs(1));
  EXPECT_ERROR(batches(*losing, sampler), Code::invalid_argument, "max_jobs");
  auto loader = torch::data::make_data_loader(Count(), sampler, DataLoaderOptions());
  EXPECT_ERROR(batches(*loader, other).begin(), Code::invalid_argument, "did not draw");
}

}  // namespace
}  // namespace torchkeep
