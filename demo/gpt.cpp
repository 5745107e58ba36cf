// SPDX-License-Identifier: BSD-3-Clause
// A small GPT-style character language model in LibTorch, of the same shape and names as its twin in gpt.py.
#include "gpt.h"

#include <ATen/CPUGeneratorImpl.h>

namespace demo {

namespace nn = torch::nn;
namespace F = torch::nn::functional;

CausalSelfAttentionImpl::CausalSelfAttentionImpl(const GptOptions& options)
    : heads_(options.heads), dropout_(options.dropout) {
  qkv_ = register_module("qkv", nn::Linear(options.width, 3 * options.width));
  projection_ = register_module("projection", nn::Linear(options.width, options.width));
}

torch::Tensor CausalSelfAttentionImpl::forward(const torch::Tensor& x) {
  const int64_t batch = x.size(0), time = x.size(1), width = x.size(2);
  auto parts = qkv_(x).view({batch, time, 3, heads_, width / heads_}).permute({2, 0, 3, 1, 4}).unbind(0);
  auto y = at::scaled_dot_product_attention(parts[0], parts[1], parts[2], /*attn_mask=*/{},
                                            is_training() ? dropout_ : 0.0, /*is_causal=*/true);
  return projection_(y.transpose(1, 2).reshape({batch, time, width}));
}

BlockImpl::BlockImpl(const GptOptions& options) {
  const int64_t width = options.width;
  norm1_ = register_module("norm1", nn::LayerNorm(nn::LayerNormOptions({width})));
  attention_ = register_module("attention", CausalSelfAttention(options));
  norm2_ = register_module("norm2", nn::LayerNorm(nn::LayerNormOptions({width})));
  mlp_ = register_module("mlp", nn::Sequential(nn::Linear(width, 4 * width), nn::GELU(), nn::Linear(4 * width, width),
                                               nn::Dropout(options.dropout)));
}

torch::Tensor BlockImpl::forward(const torch::Tensor& x) {
  auto y = x + attention_(norm1_(x));
  return y + mlp_->forward(norm2_(y));
}

GptImpl::GptImpl(const GptOptions& options) : options_(options) {
  token_ = register_module("token", nn::Embedding(options.vocabulary, options.width));
  position_ = register_module("position", nn::Embedding(options.context, options.width));
  dropout_ = register_module("dropout", nn::Dropout(options.dropout));
  blocks_ = register_module("blocks", nn::Sequential());
  for (int64_t i = 0; i < options.layers; ++i) blocks_->push_back(Block(options));
  norm_ = register_module("norm", nn::LayerNorm(nn::LayerNormOptions({options.width})));
  head_ = register_module("head", nn::Linear(nn::LinearOptions(options.width, options.vocabulary).bias(false)));

  torch::NoGradGuard no_grad;
  for (auto& parameter : parameters()) {
    if (parameter.dim() == 2) nn::init::normal_(parameter, 0.0, 0.05);
  }
}

torch::Tensor GptImpl::forward(const torch::Tensor& tokens) {
  auto positions = torch::arange(tokens.size(1), tokens.options());
  auto x = dropout_(token_(tokens) + position_(positions));
  return head_(norm_(blocks_->forward(x)));
}

torch::Tensor loss_of(Gpt& model, const torch::Tensor& inputs, const torch::Tensor& targets) {
  return F::cross_entropy(model(inputs).flatten(0, 1), targets.flatten());
}

std::vector<int64_t> write_on(Gpt& model, std::vector<int64_t> prompt, int64_t count, uint64_t seed) {
  torch::NoGradGuard no_grad;
  const bool was_training = model->is_training();
  model->eval();
  auto generator = at::make_generator<at::CPUGeneratorImpl>(seed);
  std::vector<int64_t> text = std::move(prompt);
  const auto prompt_size = static_cast<std::ptrdiff_t>(text.size());
  for (int64_t i = 0; i < count; ++i) {
    const auto seen = std::min<int64_t>(static_cast<int64_t>(text.size()), model->options().context);
    auto window = torch::tensor(std::vector<int64_t>(text.end() - seen, text.end())).unsqueeze(0);
    auto probabilities = torch::softmax(model(window).select(1, -1).squeeze(0) / 0.8, -1);
    text.push_back(torch::multinomial(probabilities, 1, false, generator).item<int64_t>());
  }
  model->train(was_training);
  return {text.begin() + prompt_size, text.end()};
}

}  // namespace demo
