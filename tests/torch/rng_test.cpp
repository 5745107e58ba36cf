// SPDX-License-Identifier: BSD-3-Clause
// Generator states: saved, set, refused.
#include "bits.h"

namespace torchkeep {
namespace {

TEST(RngState, ADrawIsRepeatedAfterALoad) {
  torch::manual_seed(3);
  torch::rand({7});
  const Value state = rng_state();
  EXPECT_EQ(state["torch"].as_tensor().sizes, std::vector<std::int64_t>{5056});
  const at::Tensor first = torch::randn({5});  // leaves a cached second normal behind
  const Value later = rng_state();
  const at::Tensor second = torch::randn({5});
  load_rng_state(state);
  EXPECT_TRUE(same_bits(torch::randn({5}), first));
  load_rng_state(later);
  EXPECT_TRUE(same_bits(torch::randn({5}), second));
}

TEST(RngState, AStateDoesNotFollowTheGenerator) {
  const Value state = rng_state();
  const Value copy = state.clone();
  torch::rand({100});
  EXPECT_EQ(state, copy);
}

TEST(RngState, AGeneratorOfOnesOwn) {
  at::Generator generator = at::make_generator<at::CPUGeneratorImpl>(11);
  const Value state = rng_state(generator);
  const at::Tensor drawn = torch::rand({4}, generator);
  load_rng_state(generator, state);
  EXPECT_TRUE(same_bits(torch::rand({4}, generator), drawn));
}

TEST(RngState, BadStatesAreRefusedAndChangeNothing) {
  const Value before = rng_state().clone();
  at::Tensor broken = before["torch"].to<torch::Tensor>();
  broken.slice(0, 8, 16).fill_(255);  // left, seeded
  const auto refuses = [&](const Value& value, Code code, const char* word) {
    expect_error([&] { load_rng_state(value); }, code, word);
    EXPECT_EQ(rng_state().clone(), before);
  };
  refuses(Value{{"torch", broken}}, Code::corrupt, "torch");
  refuses(Value{{"torch", broken.slice(0, 0, 100)}}, Code::corrupt, "torch");
  refuses(Value{{"torch", torch::zeros({5056})}}, Code::mismatch, "float32");
  refuses(Value{{"torch", 3}}, Code::mismatch, "int");
  refuses(Value{{"cuda", List{}}}, Code::not_found, "torch");
  if (torch::cuda::is_available()) GTEST_SKIP() << "the rest needs a machine without CUDA";
  refuses(Value{{"torch", before["torch"]}, {"cuda", List{broken}}}, Code::mismatch, "1 CUDA");
  load_rng_state(Value{{"torch", before["torch"]}, {"cuda", List{broken}}}, {.any_devices = true});
}

}  // namespace
}  // namespace torchkeep
