// SPDX-License-Identifier: BSD-3-Clause
// A small GPT-style character language model in LibTorch, of the same shape and names as its twin in gpt.py.
#pragma once

#include <cstdint>
#include <vector>

#include <torch/torch.h>

namespace demo {

/// The shape of the model. With the defaults it has about 430,000 parameters.
struct GptOptions {
  int64_t vocabulary = 256;  ///< number of different tokens
  int64_t context = 64;      ///< tokens the model looks back at
  int64_t layers = 2;
  int64_t heads = 4;
  int64_t width = 128;  ///< a multiple of heads
  double dropout = 0.1;
};

/// Every position attends to itself and to what came before it.
class CausalSelfAttentionImpl : public torch::nn::Module {
 public:
  explicit CausalSelfAttentionImpl(const GptOptions& options);
  torch::Tensor forward(const torch::Tensor& x);

 private:
  int64_t heads_;
  double dropout_;
  torch::nn::Linear qkv_{nullptr}, projection_{nullptr};
};
TORCH_MODULE(CausalSelfAttention);

/// LayerNorm, attention, LayerNorm, a two-layer perceptron, with residuals around both halves.
class BlockImpl : public torch::nn::Module {
 public:
  explicit BlockImpl(const GptOptions& options);
  torch::Tensor forward(const torch::Tensor& x);

 private:
  torch::nn::LayerNorm norm1_{nullptr}, norm2_{nullptr};
  CausalSelfAttention attention_{nullptr};
  torch::nn::Sequential mlp_{nullptr};
};
TORCH_MODULE(Block);

/// Tokens (batch, time) of int64 to logits (batch, time, vocabulary).
class GptImpl : public torch::nn::Module {
 public:
  explicit GptImpl(const GptOptions& options);
  torch::Tensor forward(const torch::Tensor& tokens);

  const GptOptions& options() const { return options_; }

 private:
  GptOptions options_;
  torch::nn::Embedding token_{nullptr}, position_{nullptr};
  torch::nn::Dropout dropout_{nullptr};
  torch::nn::Sequential blocks_{nullptr};
  torch::nn::LayerNorm norm_{nullptr};
  torch::nn::Linear head_{nullptr};
};
TORCH_MODULE(Gpt);

/// Mean cross entropy of predicting targets (batch, time) from inputs (batch, time), in nats per token.
torch::Tensor loss_of(Gpt& model, const torch::Tensor& inputs, const torch::Tensor& targets);

/// `count` tokens drawn after `prompt`, by a generator of their own seeded with `seed`: the same model always
/// writes the same text, and the generator that training uses does not move.
std::vector<int64_t> write_on(Gpt& model, std::vector<int64_t> prompt, int64_t count, uint64_t seed);

}  // namespace demo
