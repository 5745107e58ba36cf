// SPDX-License-Identifier: BSD-3-Clause
// Saves in the background of LibTorch's objects: the same training, and no torn state however it is provoked.
#include <functional>
#include <gtest/gtest.h>
#include <map>
#include <string>
#include <thread>
#include <vector>

#include <torchkeep/torch.h>

#include "full_training.h"
#include "run/paused_fs.h"
#include "run_events.h"
#include "support/memory_fs.h"
#include "support/whole_file.h"

namespace torchkeep {
namespace {

using testing::Events;
using testing::FullTraining;
using testing::MemoryFs;
using testing::PausedFs;
using testing::without_provenance;

TEST(BackgroundRun, IsBitForBitTheTrainingWithoutAnySave) {
  const auto train = [](Fs& fs, std::int64_t save_every, bool background) {
    torch::manual_seed(5);
    FullTraining().run("/run",
                       {.save_every = save_every,
                        .signals = false,
                        .background = background,
                        .on_event = [](const Event& event) { EXPECT_FALSE(event.is_warning()) << event.message; },
                        .fs = &fs},
                       40);
    return without_provenance(load(find_checkpoint("/run", "last", {}, fs), {.fs = &fs}));
  };
  MemoryFs without;
  MemoryFs with;
  EXPECT_TRUE(train(with, 1, true) == train(without, 1000, false));
  EXPECT_EQ(testing::read_file(with, "/run/metrics.jsonl"), testing::read_file(without, "/run/metrics.jsonl"));
}

constexpr std::int64_t kRows = 100'000;

struct WordsImpl : torch::nn::Module {
  explicit WordsImpl(const torch::nn::EmbeddingOptions& options) {
    words = register_module("words", torch::nn::Embedding(options));
    head = register_module("head", torch::nn::Linear(16, 1));
    seen = register_buffer("seen", torch::zeros({1}));
  }
  torch::Tensor forward(const torch::Tensor& x) {
    seen.add_(1);
    return head->forward(words->forward(x)).mean();
  }
  torch::nn::Embedding words{nullptr};
  torch::nn::Linear head{nullptr};
  torch::Tensor seen;
};
TORCH_MODULE(Words);

/// A training of 20 MB on a disk that can be stopped. `expected` has the state of each finished step.
class Training {
 public:
  explicit Training(torch::nn::EmbeddingOptions options = {kRows, 16}, Proof by = Proof::hash)
      : model((torch::manual_seed(1), options)), proof(by) {
    run.track("model", model);
    run.track("adam", adam);
    run.resume();
  }
  ~Training() { fs.go_on(); }

  void forward_and_backward() {
    adam.zero_grad();
    model->forward(torch::arange(0, kRows, 1000)).backward();
  }
  void finish_step() {
    ++step_;
    expected.emplace(step_,
                     Value{{"model", state_dict(model)}, {"adam", state_dict(adam, {{"model", *model}})}}.clone());
    run.finish_step(step_);
  }
  void step() {
    forward_and_backward();
    run.step(adam);
    finish_step();
  }
  /// Two steps; the save of the second one streams, stands still and has read some of the state.
  void begin_streaming_save(int writes = 3) {
    step();
    run.wait();
    fs.pause(writes);
    step();
    fs.wait_for_a_write();
  }
  /// The steps that were published, after a look at every bit of each.
  std::vector<std::int64_t> exact_steps() {
    std::vector<std::int64_t> steps;
    for (const CheckpointInfo& one : list_checkpoints("/run", disk)) {
      const Value state = load(one.path, {.fs = &disk});
      for (const char* const key : {"model", "adam"}) {
        EXPECT_TRUE(state[key] == expected.at(one.step)[key]) << key << " of step " << one.step;
      }
      steps.push_back(one.step);
    }
    return steps;
  }

  MemoryFs disk;
  PausedFs fs{disk};
  Events events;
  Words model;
  Proof proof;
  torch::optim::Adam adam{model->parameters(), 1e-2};
  std::map<std::int64_t, Value> expected;
  torchkeep::Run run = torchkeep::Run::open(
      "/run", events.options(fs, {.save_every = 1, .keep_last = 0, .signals = false, .proof = proof}));

 private:
  std::int64_t step_ = 0;
};
using Steps = std::vector<std::int64_t>;

TEST(BackgroundRun, WritesFromLiveMemoryWhatIsWrittenBeforeTheNextStep) {
  Training training;
  for (int i = 0; i < 3; ++i) {
    training.step();
    training.run.wait();
  }
  EXPECT_EQ(training.exact_steps(), (Steps{1, 2, 3}));
  const SaveMetrics save = *training.run.last_save();
  EXPECT_TRUE(save.background);
  EXPECT_GT(save.bytes, 3U * kRows * 16 * 4);
  EXPECT_LT(save.staged_bytes, save.bytes / 10);
  EXPECT_EQ(training.events.warnings(), "");
}

TEST(BackgroundRun, SetsAsideAtTheGateWhatIsUnwritten) {
  Training training;
  training.begin_streaming_save();
  training.forward_and_backward();
  training.run.step(training.adam);
  training.fs.go_on();
  training.finish_step();
  training.run.finish();
  EXPECT_EQ(training.exact_steps(), (Steps{1, 2, 3}));
  EXPECT_EQ(training.events.warnings(), "");
}

TEST(BackgroundRun, AnEmbeddingThatNormalisesInForwardIsCaughtOnceAndThenCopied) {
  Training training(torch::nn::EmbeddingOptions(kRows, 16).max_norm(1.0));
  training.begin_streaming_save();
  training.forward_and_backward();
  training.run.step(training.adam);
  training.fs.go_on();
  training.finish_step();
  training.run.wait();
  EXPECT_EQ(training.exact_steps(), (Steps{1, 3}));
  EXPECT_NE(training.events.warnings().find("step 2 was dropped, for model.words.weight changed"), std::string::npos)
      << training.events.warnings();
  const std::string before = training.events.warnings();
  training.fs.pause(3);
  training.step();
  training.fs.wait_for_a_write();
  training.forward_and_backward();
  training.run.step(training.adam);
  training.fs.go_on();
  training.finish_step();
  training.run.finish();
  EXPECT_EQ(training.exact_steps(), (Steps{1, 3, 4, 5}));
  EXPECT_EQ(training.events.warnings(), before);
}

/// What must not happen while a save streams, and is found.
void expect_found(const std::function<void(Training&)>& provoke, std::vector<Proof> proofs) {
  for (const Proof proof : proofs) {
    Training training({kRows, 16}, proof);
    training.begin_streaming_save();
    provoke(training);
    training.fs.go_on();
    training.run.wait();
    EXPECT_EQ(training.exact_steps(), Steps{1});
    EXPECT_NE(training.events.warnings().find("step 2 was dropped"), std::string::npos);
    training.finish_step();
    training.run.wait();
    EXPECT_EQ(training.exact_steps(), (Steps{1, 3})) << "it is saved again";
  }
}
const std::vector<Proof> kBoth{Proof::hash, Proof::counters};

TEST(BackgroundRun, AnOptimizerSteppedWithoutTheGateIsFound) {
  expect_found(
      [](Training& training) {
        training.forward_and_backward();
        training.adam.step();
      },
      kBoth);
}

TEST(BackgroundRun, AnInPlaceWriteToAParameterIsFound) {
  expect_found(
      [](Training& training) {
        const torch::NoGradGuard no_grad;
        training.model->words->weight.mul_(0.5);
      },
      kBoth);
}

const auto kExchange = [](Training& training) { training.model->words->weight.set_data(torch::zeros({kRows, 16})); };

TEST(BackgroundRun, AParameterWithOtherMemoryIsFoundByCounters) {
  expect_found(kExchange, {Proof::counters});
}

TEST(BackgroundRun, AParameterWithOtherMemoryIsSavedAsItWas) {
  Training training;
  training.begin_streaming_save();
  kExchange(training);
  training.fs.go_on();
  training.run.wait();
  EXPECT_EQ(training.exact_steps(), (Steps{1, 2}));
  EXPECT_EQ(training.events.warnings(), "");
}

TEST(BackgroundRun, AParameterWhoseStorageShrinksIsNotReadAnyMore) {
  Training training;
  training.begin_streaming_save(0);
  training.model->words->weight.storage().unsafeGetStorageImpl()->set_nbytes(16);
  training.fs.go_on();
  training.run.wait();
  training.model->words->weight.storage().unsafeGetStorageImpl()->set_nbytes(kRows * 16 * 4);
  EXPECT_EQ(training.exact_steps(), Steps{1});
  EXPECT_NE(training.events.warnings().find("step 2 was dropped, for model.words.weight changed"), std::string::npos);
}

// ---- writes that no counter shows, in front of a writer that stands still

TEST(BackgroundRun, WhatIsWrittenThroughDataIsNeverInACheckpointWhereverTheWriterStands) {
  for (const int writes : {0, 2, 5, 7, 12, 18}) {
    for (const bool undone : {false, true}) {
      Training training;
      training.begin_streaming_save(writes);
      const torch::Tensor& weight = training.model->words->weight;
      const torch::Tensor before = weight.detach().clone();
      std::thread([&] { weight.data().add_(1); }).join();
      if (undone) weight.data().copy_(before);
      training.fs.go_on();
      training.run.wait();
      const Steps steps = training.exact_steps();
      EXPECT_EQ(steps == Steps{1}, training.events.warnings() != "");
      if (undone || writes == 18) {
        EXPECT_EQ(steps, (Steps{1, 2})) << writes;
      } else if (writes == 0) {
        EXPECT_EQ(steps, Steps{1});
      }
      training.forward_and_backward();
      training.run.step(training.adam);
      training.finish_step();
      training.run.finish();
      EXPECT_EQ(training.exact_steps().back(), 3);
    }
  }
}

/// A student that is trained and a teacher that follows it in forward, through `.data()` or in counted operations.
struct DistillationImpl : torch::nn::Module {
  explicit DistillationImpl(bool with_counter) : counted(with_counter) {
    student = register_parameter("student", torch::randn({kRows, 16}));
    teacher = register_parameter("teacher", student.detach().clone(), false);
  }
  torch::Tensor forward() {
    const torch::NoGradGuard no_grad;
    if (counted) {
      teacher.mul_(0.9).add_(student, 0.1);
    } else {
      teacher.data().mul_(0.9).add_(student.data(), 0.1);
    }
    const at::AutoGradMode with_grad(true);
    return (student - teacher + 1).square().mean();
  }
  bool counted;
  torch::Tensor student, teacher;
};
TORCH_MODULE(Distillation);

TEST(BackgroundRun, ATeacherThatFollowsInForwardIsCopiedAtTheSave) {
  for (const bool counted : {false, true}) {
    MemoryFs disk;
    PausedFs fs(disk);
    Events events;
    Distillation model(counted);
    torch::optim::SGD sgd(model->parameters(), torch::optim::SGDOptions(0.1).momentum(0.9));  // the frozen teacher too
    auto run = torchkeep::Run::open("/run", events.options(fs, {.save_every = 1, .keep_last = 0, .signals = false}));
    run.track("model", model);
    run.track("sgd", sgd);
    run.resume();
    std::map<std::int64_t, Value> expected;
    for (std::int64_t step = 1; step <= 4; ++step) {
      sgd.zero_grad();
      model->forward().backward();  // while the save of the step before stands still
      fs.go_on();
      run.wait();
      run.step(sgd);
      expected.emplace(step, state_dict(model).clone());
      fs.pause(static_cast<int>(3 * (step - 1)));
      run.finish_step(step);
      fs.wait_for_a_write();
    }
    fs.go_on();
    run.finish();
    for (std::int64_t step = 1; step <= 4; ++step) {
      const Value saved = load(find_checkpoint("/run", std::to_string(step), {}, disk), {.fs = &disk});
      EXPECT_TRUE(saved["model"] == expected.at(step)) << step;
    }
    EXPECT_EQ(events.warnings(), "");
  }
}

/// Steps as fused kernels do: no counter is raised.
class UncountedSgd final : public torch::optim::SGD {
 public:
  using SGD::SGD;
  torch::Tensor step(LossClosure = nullptr) override {
    for (const at::Tensor& parameter : param_groups()[0].params()) {
      if (parameter.grad().defined()) parameter.data().sub_(parameter.grad(), 0.1);
    }
    return {};
  }
};

TEST(BackgroundRun, AWriteThatNoCounterShowsIsFoundInWhatWasReadOfMemoryThatStepsWithoutThem) {
  for (const Proof proof : kBoth) {
    MemoryFs disk;
    PausedFs fs(disk);
    Events events;
    Words model(torch::nn::EmbeddingOptions{kRows, 16});
    UncountedSgd sgd(model->parameters(), 0.1);
    auto run = torchkeep::Run::open(
        "/run", events.options(fs, {.save_every = 1, .keep_last = 0, .signals = false, .proof = proof}));
    run.track("model", model);
    run.track("sgd", static_cast<torch::optim::SGD&>(sgd));
    run.resume();
    for (std::int64_t step = 1; step <= 2; ++step) {
      if (step == 2) fs.pause(3);
      model->forward(torch::arange(0, kRows, 1000)).backward();
      run.step(sgd);
      run.finish_step(step);
      if (step == 1) run.wait();
    }
    fs.wait_for_a_write();
    model->words->weight.data().zero_();
    run.step(sgd);
    fs.go_on();
    run.wait();
    EXPECT_EQ(list_checkpoints("/run", disk).size(), 1U);
    EXPECT_NE(events.warnings().find("model.words.weight changed"), std::string::npos) << events.warnings();
  }
}

}  // namespace
}  // namespace torchkeep
