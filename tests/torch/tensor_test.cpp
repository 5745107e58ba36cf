// SPDX-License-Identifier: BSD-3-Clause
// at::Tensor in a Value and out of it.
#include "bits.h"

namespace torchkeep {
namespace {

constexpr auto kNan32 = 0x7fa00123u;  // a signalling NaN with a payload

at::Tensor from_words(std::vector<std::uint32_t> words) {
  at::Tensor tensor = torch::empty({static_cast<std::int64_t>(words.size())});
  std::memcpy(tensor.data_ptr(), words.data(), words.size() * 4);
  return tensor;
}

TEST(TorchTensor, AValueLooksAtTheLiveMemory) {
  at::Tensor tensor = torch::zeros({2, 3});
  const Value value = tensor;
  tensor.fill_(7);
  EXPECT_EQ(value.as_tensor().to_vector<float>(), std::vector<float>(6, 7.0F));
}

TEST(TorchTensor, AValueKeepsTheMemoryAlive) {
  Value value;
  { value = torch::full({1000}, 5.0); }
  EXPECT_EQ(value.as_tensor().to_vector<float>(), std::vector<float>(1000, 5.0F));
}

TEST(TorchTensor, AConvertedTensorHasMemoryOfItsOwn) {
  at::Tensor tensor = torch::ones({4});
  const Value value = tensor;
  at::Tensor copy = value.to<torch::Tensor>();
  copy.fill_(9);
  EXPECT_TRUE(same_bits(tensor, torch::ones({4})));
}

TEST(TorchTensor, EveryBitOfAFloatIsKept) {
  const at::Tensor tensor = from_words({kNan32, 0xffc00001u, 0x80000000u, 0x00000001u, 0x7f800000u});
  EXPECT_TRUE(same_bits(Value(tensor).to<torch::Tensor>(), tensor));
}

TEST(TorchTensor, EveryDtypeIsKept) {
  for (const DTypeInfo& row : all_dtypes()) {
    if (row.kind == DTypeClass::quantized) continue;
    const c10::ScalarType type = to_scalar_type(row.dtype);
    at::Tensor bytes = torch::arange(48, torch::kByte);
    at::Tensor tensor = torch::empty({0}, type).set_(bytes.storage(), 1, {2, 1}, {1, 1});
    const Value value = tensor;
    ASSERT_EQ(value.as_tensor().dtype, row.dtype);
    const at::Tensor back = value.to<torch::Tensor>();
    EXPECT_TRUE(same_bits(back, tensor)) << row.name;
    EXPECT_EQ(to_dtype(back.scalar_type()), row.dtype);
  }
}

TEST(TorchTensor, StridesAreKeptAndTheOffsetIsDropped) {
  const at::Tensor base = torch::arange(24).view({4, 6});
  const at::Tensor view = base.slice(0, 1, 3).t();
  const Value value = view;
  EXPECT_EQ(value.as_tensor().storage_offset, 6);
  const at::Tensor back = value.to<torch::Tensor>();
  EXPECT_TRUE(same_bits(back, view));
  EXPECT_EQ(back.storage_offset(), 0);
  EXPECT_EQ(back.storage().nbytes(), 12 * sizeof(std::int64_t));
}

TEST(TorchTensor, ExpandedEmptyAndScalarTensorsAreKept) {
  for (const at::Tensor& tensor : {torch::ones({1, 3}).expand({5, 3}), torch::empty({0, 4}), torch::tensor(3.5),
                                   torch::ones({2, 2}).slice(0, 2, 2), torch::tensor(true)}) {
    EXPECT_TRUE(same_bits(Value(tensor).to<torch::Tensor>(), tensor)) << tensor.sizes();
  }
}

TEST(TorchTensor, ConjugateAndNegativeBitsAreKept) {
  const at::Tensor tensor = torch::randn({3}, torch::kComplexFloat).conj();
  const Value value = tensor;
  EXPECT_TRUE(value.as_tensor().is_conj);
  const at::Tensor back = value.to<torch::Tensor>();
  EXPECT_TRUE(back.is_conj());
  EXPECT_TRUE(torch::equal(back.resolve_conj(), tensor.resolve_conj()));
  const at::Tensor negative = torch::imag(tensor);
  ASSERT_TRUE(negative.is_neg());
  EXPECT_TRUE(Value(negative).as_tensor().is_neg);
  EXPECT_TRUE(torch::equal(Value(negative).to<torch::Tensor>().resolve_neg(), negative.resolve_neg()));
}

TEST(TorchTensor, RequiresGradIsKept) {
  EXPECT_TRUE(Value(torch::ones({1}, torch::requires_grad())).to<torch::Tensor>().requires_grad());
  EXPECT_FALSE(Value(torch::ones({1})).to<torch::Tensor>().requires_grad());
}

TEST(TorchTensor, TensorsConvertedByOneCallShareWhatTheySharedBefore) {
  const at::Tensor base = torch::arange(10);
  const Value list = std::vector<at::Tensor>{base, base.slice(0, 5), torch::ones({10})};
  std::vector<at::Tensor> back = list.to<std::vector<at::Tensor>>();
  back[0][6] = 60;
  EXPECT_EQ(back[1][1].item<std::int64_t>(), 60);
  EXPECT_EQ(base[6].item<std::int64_t>(), 6);
  const Value dict = std::map<std::string, at::Tensor>{{"a", base}, {"b", base}};
  auto named = dict.to<std::map<std::string, at::Tensor>>();
  EXPECT_TRUE(named.at("a").is_alias_of(named.at("b")));
}

TEST(TorchTensor, ViewsOfOneStorageStaySharedInAValue) {
  const at::Tensor base = torch::arange(10);
  const Value value{{"whole", base}, {"part", base.slice(0, 5)}};
  EXPECT_EQ(value["whole"].as_tensor().storage->identity(), value["part"].as_tensor().storage->identity());
  EXPECT_NE(value["whole"].as_tensor().storage->identity(), Value(base.clone()).as_tensor().storage->identity());
}

TEST(TorchTensor, AnUndefinedTensorIsNoneAndNoneIsNoTensor) {
  EXPECT_TRUE(Value(at::Tensor()).is_none());
  expect_error([] { Value().to<torch::Tensor>(); }, Code::mismatch, "None");
  EXPECT_FALSE(Value().to<std::optional<at::Tensor>>().has_value());
}

TEST(TorchTensor, WhatHasNoStridedMemoryIsRefused) {
  expect_error([] { Value(torch::eye(3).to_sparse()); }, Code::unsupported, "Sparse", "(3, 3)");
  expect_error([] { Value(torch::empty({2}, torch::kMeta)); }, Code::unsupported, "meta");
  expect_error([] { Value(torch::quantize_per_tensor(torch::ones({2}), 0.1, 0, torch::kQInt8)); }, Code::unsupported,
               "quantized");
}

TEST(TorchTensor, AReadErrorNamesTheKey) {
  const Value value{{"weights", Value{{"w", broken_tensor({2})}}}};
  expect_error([&] { value["weights"]["w"].to<torch::Tensor>(); }, Code::corrupt, "weights.w", "CRC-32");
  expect_error([&] { value["weights"].to<std::map<std::string, at::Tensor>>(); }, Code::corrupt, "weights.w");
}

}  // namespace
}  // namespace torchkeep
