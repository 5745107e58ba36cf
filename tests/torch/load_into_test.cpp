// SPDX-License-Identifier: BSD-3-Clause
// load_into of LibTorch's objects: every bit in the tensors that are there, everything checked first, and honest
// errors.
#include <gtest/gtest.h>

#include <torchkeep/torch.h>

#include "bits.h"
#include "support/memory_fs.h"
#include "support/whole_file.h"

namespace torchkeep {
namespace {

using testing::MemoryFs;

/// A module whose tensors are large enough to stay in the file until they are read in place.
struct NetImpl : torch::nn::Module {
  explicit NetImpl(int out = 400, bool tied = false) {
    first = register_module("first", torch::nn::Linear(50, out));
    norm = register_module("norm", torch::nn::BatchNorm1d(3));
    second = register_module("second", tied ? first : torch::nn::Linear(50, out));
  }
  torch::nn::Linear first{nullptr}, second{nullptr};
  torch::nn::BatchNorm1d norm{nullptr};
};
TORCH_MODULE(Net);

struct Training {
  Net net;
  torch::optim::Adam adam;

  explicit Training(int seed, int steps, int out = 400)
      : net((torch::manual_seed(seed), out)), adam(net->parameters(), 1e-3) {
    for (int i = 0; i < steps; ++i) {
      adam.zero_grad();
      for (at::Tensor& parameter : net->parameters()) parameter.mutable_grad() = torch::randn_like(parameter);
      adam.step();
    }
  }
  Value state() { return {{"model", state_dict(net)}, {"optimizer", state_dict(adam, net)}, {"epoch", 3}}; }
  Value load(Fs& fs, LoadIntoOptions options = {}) {
    options.fs = &fs;
    return load_into("a.pt", {{"model", net}, {"optimizer", {adam, net}}}, options);
  }
  /// Where the weights and their moments are. (Small tensors come in blocks: a new optimizer's are not read in place.)
  std::vector<void*> places() {
    std::vector<void*> places;
    for (const at::Tensor& parameter : {net->first->weight, net->second->weight}) {
      auto& moments = static_cast<torch::optim::AdamParamState&>(*adam.state().at(parameter.unsafeGetTensorImpl()));
      places.insert(places.end(),
                    {parameter.data_ptr(), moments.exp_avg().data_ptr(), moments.exp_avg_sq().data_ptr()});
    }
    return places;
  }
};

class TorchLoadInto : public ::testing::Test {
 protected:
  TorchLoadInto() { save(saved_.state(), "a.pt", {.fs = &fs_}); }
  /// Changes a byte of the second layer's weight in the file.
  void damage() {
    const std::string bytes = to_leaf(saved_.net->second->weight).contiguous_bytes();
    const std::size_t at = testing::read_file(fs_, "a.pt").find(bytes);
    fs_.open_write("a.pt")->write_at(at + 100, as_bytes("xyz"));
  }

  MemoryFs fs_;
  Training saved_{1, 3};
};

TEST_F(TorchLoadInto, ReadsEveryBitIntoTheTensorsThatAreThere) {
  Training live(2, 1);
  const auto places = live.places();
  const Value rest = live.load(fs_);
  EXPECT_TRUE(live.state() == saved_.state());
  EXPECT_EQ(live.places(), places);
  EXPECT_EQ(rest["epoch"].to<int>(), 3);
  EXPECT_FALSE(rest.contains("model"));
}

TEST_F(TorchLoadInto, ANewOptimizerGetsItsMoments) {
  Training live(2, 0);
  live.load(fs_);
  EXPECT_TRUE(live.state() == saved_.state());
}

TEST_F(TorchLoadInto, RaisesTheVersionOfWhatItOverwrites) {
  Training live(2, 1);
  const auto before = live.net->first->weight._version();
  live.load(fs_);
  EXPECT_GT(live.net->first->weight._version(), before);
}

TEST_F(TorchLoadInto, AMismatchAnywhereChangesNothing) {
  Training wide(2, 1, 401);
  const Value before = wide.state().clone();
  expect_error([&] { wide.load(fs_); }, Code::mismatch, "first.weight", "shape (400, 50) in the file, (401, 50)");
  EXPECT_TRUE(wide.state() == before);
  torch::optim::SGD sgd(saved_.net->parameters(), 0.1);
  Training other(2, 1);
  const Value untouched = other.state().clone();
  expect_error(
      [&] {
        load_into("a.pt", {{"model", other.net}, {"optimizer", {sgd, saved_.net}}}, {.fs = &fs_});
      },
      Code::mismatch, "not the state of SGD");
  EXPECT_TRUE(other.state() == untouched);
  expect_error(
      [&] {
        load_into("a.pt", {{"model", other.net}, {"scheduler", other.net}}, {.fs = &fs_});
      },
      Code::not_found, "scheduler");
  EXPECT_TRUE(other.state() == untouched);
}

TEST_F(TorchLoadInto, ADamagedRecordIsFoundAndTheErrorSaysWhatBecameOfTheModel) {
  damage();
  Training live(2, 1);
  expect_error([&] { live.load(fs_); }, Code::corrupt, "CRC-32 is", "partly overwritten: do not use it");
}

TEST_F(TorchLoadInto, VerifyFirstLeavesEverythingAsItWas) {
  damage();
  Training live(2, 1);
  const Value before = live.state().clone();
  expect_error([&] { live.load(fs_, {.verify_first = true}); }, Code::corrupt, "CRC-32 is");
  EXPECT_TRUE(live.state() == before);
}

TEST_F(TorchLoadInto, LoadStateDictOfAnUnreadFileStillReadsBeforeItChanges) {
  damage();
  Training live(2, 1);
  const Value before = live.state().clone();
  const Value unread = open_checkpoint("a.pt", {.fs = &fs_});
  expect_error([&] { load_state_dict(live.net, unread["model"]); }, Code::corrupt, "CRC-32 is");
  EXPECT_TRUE(live.state() == before);
}

TEST_F(TorchLoadInto, TheModelsKeysNameAnOptimizersParameters) {
  Value file = saved_.state();
  Value optimizer = state_dict(saved_.adam);
  const Value straight = file["model"];
  Value model = Value::mapping(Kind::dict);
  for (const char* layer : {"second", "norm", "first"}) {
    for (const Entry& entry : straight.items()) {
      if (entry.key.as_string().starts_with(layer)) model.set(entry.key, entry.value);
    }
  }
  // As a program writes it whose model has its layers the other way round.
  Value states = Value::mapping(Kind::dict);
  const std::int64_t there[] = {4, 5, 2, 3, 0, 1};
  for (std::int64_t i = 0; i < 6; ++i) states.set(i, optimizer["state"][there[i]]);
  optimizer.set("state", states);
  file.set("model", model);
  file.set("optimizer", optimizer);
  save(file, "b.pt", {.fs = &fs_});
  Training live(2, 0);
  load_into("b.pt", {{"model", live.net}, {"optimizer", {live.adam, live.net}}}, {.fs = &fs_});
  EXPECT_TRUE(live.state() == saved_.state());
}

TEST_F(TorchLoadInto, AnotherDtypeIsCastOnTheWay) {
  Training live(2, 1);
  live.net->to(at::kDouble);
  load_into("a.pt", {{"model", live.net}}, {.fs = &fs_});
  EXPECT_TRUE(same_bits(live.net->first->weight, saved_.net->first->weight.detach().to(at::kDouble)));
}

TEST_F(TorchLoadInto, TiedParametersAreReadOnce) {
  Net tied(400, true);
  Net live(400, true);
  save({{"model", state_dict(tied)}}, "a.pt", {.fs = &fs_});
  load_into("a.pt", {{"model", live}}, {.fs = &fs_});
  EXPECT_TRUE(state_dict(live) == state_dict(tied));
}

TEST_F(TorchLoadInto, ARunThatMeetsDamageHalfwayContinuesFromTheOlderCheckpointWhole) {
  const RunOptions options{.save_every = 1, .signals = false, .on_event = [](const Event&) {}, .fs = &fs_};
  const auto open = [&](Training& training, bool verify_first = false) {
    RunOptions mine = options;
    mine.verify_first = verify_first;
    auto run = torchkeep::Run::open("run", mine);
    run.track("model", training.net);
    run.track("optimizer", training.adam);
    return run;
  };
  Training first(1, 1);
  Value older;
  {
    torchkeep::Run run = open(first);
    run.resume();
    run.finish_step(1);
    older = first.state().clone();
    for (at::Tensor& parameter : first.net->parameters()) parameter.mutable_grad() = torch::ones_like(parameter);
    first.adam.step();
    run.finish_step(2);
  }
  const std::string bytes = to_leaf(first.net->second->weight).contiguous_bytes();
  const std::string newest = "run/step-00000002.pt";
  const std::size_t at = testing::read_file(fs_, newest).find(bytes);
  fs_.open_write(newest)->write_at(at + 100, as_bytes("xyz"));
  for (const bool verify_first : {false, true}) {
    Training live(5, 1);
    torchkeep::Run run = open(live, verify_first);
    EXPECT_EQ(run.resume(), 1);
    EXPECT_TRUE(live.state() == older);
  }
}

}  // namespace
}  // namespace torchkeep
