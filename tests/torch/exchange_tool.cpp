// SPDX-License-Identifier: BSD-3-Clause
// The C++ side of tests/torch/test_exchange_*.py: each verb reads and writes torch.save files of a folder.
#include <cstdio>
#include <functional>
#include <map>

#include "exchange_case.h"

namespace torchkeep {
namespace {

const SaveOptions kQuick{.durable = false};

/// write CASES DIR: trains every case of the file, saves NAME.cpp.pt, trains on, saves NAME.cpp_end.pt.
void write(const std::vector<std::string>& args) {
  const Value list = load(args.at(0));
  for (const Value& spec : list.elements()) {
    const std::string stem = args.at(1) + "/" + spec["name"].as_string();
    ExchangeCase run(spec);
    run.train(0, spec["steps"].to<int>());
    save(run.state(), stem + ".cpp.pt", kQuick);
    run.train(spec["steps"].to<int>(), spec["more"].to<int>());
    save(run.state(), stem + ".cpp_end.pt", kQuick);
  }
}

/// read CASES DIR FROM AS END: loads NAME.FROM.pt, saves it again as NAME.AS.pt, trains on, saves NAME.END.pt.
void read(const std::vector<std::string>& args) {
  const Value list = load(args.at(0));
  for (const Value& spec : list.elements()) {
    const std::string stem = args.at(1) + "/" + spec["name"].as_string();
    ExchangeCase run(spec);
    run.load(load(stem + "." + args.at(2) + ".pt"));
    save(run.state(), stem + "." + args.at(3) + ".pt", kQuick);
    run.train(spec["steps"].to<int>(), spec["more"].to<int>());
    save(run.state(), stem + "." + args.at(4) + ".pt", kQuick);
  }
}

/// equal FILES: for each pair of paths in the list, whether they hold equal Values; a line "equal" or "different".
void equal(const std::vector<std::string>& args) {
  const Value list = load(args.at(0));
  for (const Value& pair : list.elements()) {
    std::puts(load(pair[0].as_string()) == load(pair[1].as_string()) ? "equal" : "different");
  }
}

/// A parameter of the shape and dtype that its state in the file shows.
at::Tensor parameter_for(const std::optional<Value>& state) {
  if (state && state->is_mapping()) {
    for (const Entry& entry : state->items()) {
      if (!entry.value.is(Kind::tensor) || entry.key == Value("step")) continue;
      const Tensor& leaf = entry.value.as_tensor();
      return torch::zeros(leaf.sizes, to_scalar_type(leaf.dtype)).set_requires_grad(true);
    }
  }
  return torch::zeros({1}, torch::requires_grad());
}

std::unique_ptr<torch::optim::Optimizer> optimizer_for(const std::string& name, const Value& state) {
  using namespace torch::optim;
  std::vector<OptimizerParamGroup> groups;
  const Value in_file = state["param_groups"];
  for (const Value& group : in_file.elements()) {
    std::vector<at::Tensor> params;
    const Value ids = group["params"];
    for (const Value& id : ids.elements()) params.push_back(parameter_for(state["state"].find(id)));
    groups.emplace_back(std::move(params));
  }
  if (name == "Adam") return std::make_unique<Adam>(groups);
  if (name == "AdamW") return std::make_unique<AdamW>(groups);
  if (name == "SGD") return std::make_unique<SGD>(groups, SGDOptions(0.5));
  if (name == "RMSprop") return std::make_unique<RMSprop>(groups);
  if (name == "Adagrad") return std::make_unique<Adagrad>(groups);
  return std::make_unique<LBFGS>(groups);
}

/// adopt LIST: each element is (class, from, to): loads the optimizer state in the file `from` into a new optimizer of
/// that class over parameters that fit, and saves that one's state as `to`. A line "ok" or the error for each.
void adopt(const std::vector<std::string>& args) {
  const Value list = load(args.at(0));
  for (const Value& item : list.elements()) {
    try {
      const Value state = load(item[1].as_string());
      const auto optimizer = optimizer_for(item[0].as_string(), state);
      load_state_dict(*optimizer, state);
      save(state_dict(*optimizer), item[2].as_string(), kQuick);
      std::puts("ok");
    } catch (const Error& error) {
      std::puts(error.what());
    }
  }
}

/// Modules whose twins test_exchange_module.py makes.
std::vector<std::pair<std::string, std::shared_ptr<torch::nn::Module>>> zoo() {
  using namespace torch::nn;
  const auto mha = MultiheadAttentionOptions(4, 2);
  return {
      {"linear", Linear(3, 2).ptr()},
      {"linear_without_bias", Linear(LinearOptions(3, 2).bias(false)).ptr()},
      {"bilinear", Bilinear(2, 3, 4).ptr()},
      {"conv", Conv2d(Conv2dOptions(2, 4, 3).groups(2)).ptr()},
      {"conv_transpose", ConvTranspose1d(2, 4, 3).ptr()},
      {"embedding", Embedding(5, 3).ptr()},
      {"embedding_bag", EmbeddingBag(5, 3).ptr()},
      {"prelu", PReLU().ptr()},
      {"layer_norm", LayerNorm(LayerNormOptions({3})).ptr()},
      {"group_norm", GroupNorm(2, 4).ptr()},
      {"batch_norm", BatchNorm2d(3).ptr()},
      {"batch_norm_plain", BatchNorm1d(BatchNorm1dOptions(3).affine(false).track_running_stats(false)).ptr()},
      {"instance_norm", InstanceNorm1d(InstanceNorm1dOptions(3).affine(true).track_running_stats(true)).ptr()},
      {"instance_norm_plain", InstanceNorm3d(3).ptr()},
      {"lstm", LSTM(LSTMOptions(3, 4).num_layers(2).bidirectional(true).proj_size(2)).ptr()},
      {"gru", GRU(GRUOptions(3, 4).bias(false)).ptr()},
      {"rnn_cell", RNNCell(3, 4).ptr()},
      {"attention", MultiheadAttention(mha).ptr()},
      {"attention_of_three",
       MultiheadAttention(MultiheadAttentionOptions(4, 2).kdim(3).vdim(5).add_bias_kv(true)).ptr()},
      {"transformer", Transformer(TransformerOptions(4, 2, 1, 2).dim_feedforward(8)).ptr()},
      {"sequential", Sequential(Linear(2, 3), ReLU(), BatchNorm1d(3), Dropout()).ptr()},
      {"module_list", ModuleList(Linear(2, 2), PReLU()).ptr()},
      {"parameter_list", ParameterList(torch::ones({2}), torch::zeros({1, 3})).ptr()},
  };
}

/// zoo FILE: saves the state dicts of the zoo.
void write_zoo(const std::vector<std::string>& args) {
  Value states = Value::mapping(Kind::dict);
  for (const auto& [name, module] : zoo()) states.set(name, state_dict(module));
  save(states, args.at(0), kQuick);
}

/// read_zoo FILE BACK: loads state dicts into a new zoo and saves what is in it.
void read_zoo(const std::vector<std::string>& args) {
  const Value states = load(args.at(0));
  Value back = Value::mapping(Kind::dict);
  for (const auto& [name, module] : zoo()) {
    load_state_dict(module, states[name]);
    back.set(name, state_dict(module));
  }
  save(back, args.at(1), kQuick);
}

/// tensors FILE: live tensors of every kind, with the dtypes that Python can load.
void write_tensors(const std::vector<std::string>& args) {
  Value values = Value::mapping(Kind::dict);
  const at::Tensor bytes = torch::arange(64, torch::kByte);
  for (const DTypeInfo& row : all_dtypes()) {
    const bool sub_byte = row.name.starts_with("int") && row.itemsize == 1 && row.name != "int8";
    const bool unsigned_sub_byte = row.name.starts_with("uint") && row.itemsize == 1 && row.name != "uint8";
    if (row.kind == DTypeClass::quantized || sub_byte || unsigned_sub_byte) continue;  // Python cannot save these
    at::Tensor tensor = torch::empty({0}, to_scalar_type(row.dtype)).set_(bytes.clone().storage(), 1, {2, 1}, {1, 1});
    values.set(std::string(row.name), tensor);
  }
  const at::Tensor base = torch::arange(24.0).view({4, 6});
  values.set("base", base);
  values.set("view", base.slice(0, 1, 3).t());
  values.set("expanded", torch::ones({1, 3}).expand({5, 3}));
  values.set("scalar", torch::tensor(2.5, torch::kDouble));
  values.set("empty", torch::empty({0, 4}));
  values.set("conj", torch::complex(torch::ones({2}), torch::full({2}, 2.0)).conj());
  values.set("requires_grad", torch::ones({2}, torch::requires_grad()));
  at::Tensor nan = torch::empty({1});
  const std::uint32_t payload = 0x7fa00123u;
  std::memcpy(nan.data_ptr(), &payload, sizeof payload);
  values.set("nan", nan);
  save(values, args.at(0), kQuick);
}

/// copy FROM TO: every tensor of a dict goes into LibTorch and back.
void copy_tensors(const std::vector<std::string>& args) {
  save(load(args.at(0)).to<std::map<std::string, at::Tensor>>(), args.at(1), kQuick);
}

/// rng FILE: the generator's state in the middle, and what it draws next.
void write_rng(const std::vector<std::string>& args) {
  torch::manual_seed(5);
  torch::randn({3});
  const Value state = rng_state().clone();
  save({{"rng", state}, {"next", torch::randn({20})}}, args.at(0), kQuick);
}

/// read_rng FROM TO: continues a generator.
void read_rng(const std::vector<std::string>& args) {
  load_rng_state(load(args.at(0)));
  save({{"next", torch::randn({20})}}, args.at(1), kQuick);
}

const std::map<std::string, std::function<void(const std::vector<std::string>&)>> kVerbs = {
    {"write", write},       {"read", read},         {"equal", equal},           {"zoo", write_zoo},
    {"read_zoo", read_zoo}, {"adopt", adopt},       {"tensors", write_tensors}, {"copy", copy_tensors},
    {"rng", write_rng},     {"read_rng", read_rng},
};

}  // namespace
}  // namespace torchkeep

int main(int argc, char** argv) {
  try {
    torch::set_num_threads(1);  // sums in one order, here and in Python
    torchkeep::kVerbs.at(argv[1])({argv + 2, argv + argc});
    return 0;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
  }
}
