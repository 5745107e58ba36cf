// SPDX-License-Identifier: BSD-3-Clause
// The rows of Adam, AdamW, SGD, RMSprop and Adagrad, and how a row is written and read.
#include "optimizer_table.h"

#include <algorithm>
#include <fmt/format.h>

#include <torch/optim/adagrad.h>
#include <torch/optim/adam.h>
#include <torch/optim/adamw.h>
#include <torch/optim/rmsprop.h>
#include <torch/optim/sgd.h>
#include <torch/torch.h>

#include <torchkeep/torch/group_extras.h>

#include "optimizer_fields.h"
#include "tensor_io.h"

namespace torchkeep {

namespace {

using namespace torch::optim;

// Adam and AdamW: the same fields. AdamW is Adam with decoupled_weight_decay in Python, a class of its own here.
template <class Options, class State>
void add_adam(OptimizerRow& row, double weight_decay, bool decoupled) {
  const Value decay = weight_decay == 0 ? Value(0) : Value(weight_decay);
  row.hyperparameters = {
      option<Options>(
          "lr", 1e-3, [](auto& o) -> auto& { return o.lr(); }),
      option<Options>(
          "betas", Tuple{0.9, 0.999}, [](auto& o) -> auto& { return o.betas(); }),
      option<Options>(
          "eps", 1e-8, [](auto& o) -> auto& { return o.eps(); }),
      option<Options>(
          "weight_decay", decay, [](auto& o) -> auto& { return o.weight_decay(); }),
      option<Options>(
          "amsgrad", false, [](auto& o) -> auto& { return o.amsgrad(); }),
      fixed("maximize", false),
      harmless("foreach", none),
      harmless("capturable", false),
      harmless("differentiable", false),
      harmless("fused", none),
      fixed("decoupled_weight_decay", decoupled),
  };
  row.fields = {
      step<State>([](auto& s) -> auto& { return s.step(); }),
      tensor<State>(
          "exp_avg", [](auto& s) -> auto& { return s.exp_avg(); }),
      tensor<State>(
          "exp_avg_sq", [](auto& s) -> auto& { return s.exp_avg_sq(); }),
      tensor<State>(
          "max_exp_avg_sq", [](auto& s) -> auto& { return s.max_exp_avg_sq(); },
          [](const OptimizerOptions& o) { return static_cast<const Options&>(o).amsgrad(); }),
  };
}

OptimizerRow adam_row() {
  OptimizerRow row = make_row<Adam, AdamOptions, AdamParamState>("Adam");
  add_adam<AdamOptions, AdamParamState>(row, 0, false);
  return row;
}

OptimizerRow adamw_row() {
  OptimizerRow row = make_row<AdamW, AdamWOptions, AdamWParamState>("AdamW");
  add_adam<AdamWOptions, AdamWParamState>(row, 1e-2, true);
  return row;
}

// Without momentum neither language keeps a state. The buffer is the first gradient's clone: until then it is absent.
OptimizerRow sgd_row() {
  OptimizerRow row = make_row<SGD, SGDOptions, SGDParamState>("SGD");
  row.hyperparameters = {
      option<SGDOptions>(
          "lr", 1e-3, [](auto& o) -> auto& { return o.lr(); }),
      option<SGDOptions>(
          "momentum", 0, [](auto& o) -> auto& { return o.momentum(); }),
      option<SGDOptions>(
          "dampening", 0, [](auto& o) -> auto& { return o.dampening(); }),
      option<SGDOptions>(
          "weight_decay", 0, [](auto& o) -> auto& { return o.weight_decay(); }),
      option<SGDOptions>(
          "nesterov", false, [](auto& o) -> auto& { return o.nesterov(); }),
      fixed("maximize", false),
      harmless("foreach", none),
      harmless("differentiable", false),
      harmless("fused", none),
  };
  row.fields = {
      tensor<SGDParamState>(
          "momentum_buffer", [](auto& s) -> auto& { return s.momentum_buffer(); },
          [](const OptimizerOptions&) { return false; }),
  };
  return row;
}

OptimizerRow rmsprop_row() {
  using Options = RMSpropOptions;
  OptimizerRow row = make_row<RMSprop, Options, RMSpropParamState>("RMSprop");
  row.hyperparameters = {
      option<Options>(
          "lr", 1e-2, [](auto& o) -> auto& { return o.lr(); }),
      option<Options>(
          "momentum", 0, [](auto& o) -> auto& { return o.momentum(); }),
      option<Options>(
          "alpha", 0.99, [](auto& o) -> auto& { return o.alpha(); }),
      option<Options>(
          "eps", 1e-8, [](auto& o) -> auto& { return o.eps(); }),
      option<Options>(
          "centered", false, [](auto& o) -> auto& { return o.centered(); }),
      option<Options>(
          "weight_decay", 0, [](auto& o) -> auto& { return o.weight_decay(); }),
      harmless("capturable", false),
      harmless("foreach", none),
      fixed("maximize", false),
      harmless("differentiable", false),
  };
  row.fields = {
      step<RMSpropParamState>([](auto& s) -> auto& { return s.step(); }),
      tensor<RMSpropParamState>(
          "square_avg", [](auto& s) -> auto& { return s.square_avg(); }),
      tensor<RMSpropParamState>(
          "momentum_buffer", [](auto& s) -> auto& { return s.momentum_buffer(); },
          [](const OptimizerOptions& o) { return static_cast<const Options&>(o).momentum() > 0; }),
      tensor<RMSpropParamState>(
          "grad_avg", [](auto& s) -> auto& { return s.grad_avg(); },
          [](const OptimizerOptions& o) { return static_cast<const Options&>(o).centered(); }),
  };
  return row;
}

// Both languages make every state in the constructor. Python makes a missing one in step(); LibTorch's step() throws,
// so a parameter without state in the file gets the first one at the load.
OptimizerRow adagrad_row() {
  using Options = AdagradOptions;
  OptimizerRow row = make_row<Adagrad, Options, AdagradParamState>("Adagrad");
  row.hyperparameters = {
      option<Options>(
          "lr", 1e-2, [](auto& o) -> auto& { return o.lr(); }),
      option<Options>(
          "lr_decay", 0, [](auto& o) -> auto& { return o.lr_decay(); }),
      option<Options>(
          "eps", 1e-10, [](auto& o) -> auto& { return o.eps(); }),
      option<Options>(
          "weight_decay", 0, [](auto& o) -> auto& { return o.weight_decay(); }),
      option<Options>(
          "initial_accumulator_value", 0, [](auto& o) -> auto& { return o.initial_accumulator_value(); }),
      harmless("foreach", none),
      fixed("maximize", false),
      harmless("differentiable", false),
      harmless("fused", none),
  };
  row.fields = {
      step<AdagradParamState>([](auto& s) -> auto& { return s.step(); }),
      tensor<AdagradParamState>(
          "sum", [](auto& s) -> auto& { return s.sum(); }),
  };
  row.first_state = [](const at::Tensor& param, const OptimizerOptions& options) {
    const double value = static_cast<const Options&>(options).initial_accumulator_value();
    auto state = std::make_unique<AdagradParamState>();
    state->step(0);
    state->sum(torch::full_like(param.detach(), value, at::MemoryFormat::Preserve));
    return std::unique_ptr<OptimizerParamState>(std::move(state));
  };
  return row;
}

const std::vector<OptimizerRow>& rows() {
  static const std::vector<OptimizerRow> all = {adam_row(),    adamw_row(),   sgd_row(),
                                                rmsprop_row(), adagrad_row(), lbfgs_row()};
  return all;
}

/// The tensor of a field, or an undefined one with the reason among the problems.
at::Tensor read_field(const Value& value, const StateField& field, const StateReader& reader) {
  at::Tensor tensor;
  reader.collect(field.name, [&] {
    const Tensor& leaf = value.as_tensor();
    const at::Tensor& param = reader.params.front();
    if (param.sizes() != leaf.sizes) {
      value.fail(Code::mismatch, fmt::format("shape {} in the file, {} of the parameter", shape_text(leaf.sizes),
                                             shape_text(param.sizes())));
    }
    const DTypeClass kind = info(leaf.dtype).kind;
    if (kind != (param.is_complex() ? DTypeClass::complex : DTypeClass::floating)) {
      value.fail(Code::mismatch, fmt::format("{} in the file, for a {} parameter", to_string(leaf.dtype),
                                             c10::toString(param.scalar_type())));
    }
    const at::Tensor live = reader.live != nullptr ? field.tensor(*reader.live) : at::Tensor();
    tensor = read_tensor_later(value, live, param.device(), reader.live_reader);
  });
  return tensor;
}

void check_known(const OptimizerRow& row, const StateReader& reader) {
  for (const Entry& entry : reader.state.items()) {
    const bool known = entry.key.is(Kind::string) &&
                       std::any_of(row.fields.begin(), row.fields.end(),
                                   [&](const StateField& field) { return field.name == entry.key.as_string(); });
    if (known || entry.value.is_none()) continue;
    const std::string key = entry.key.is(Kind::string) ? entry.key.as_string() : "a key that is no text";
    reader.problems.push_back(fmt::format("{}: no state of {}", key, row.name));
  }
}

}  // namespace

const Hyperparameter* OptimizerRow::find(std::string_view key) const {
  const auto found = std::find_if(hyperparameters.begin(), hyperparameters.end(),
                                  [&](const Hyperparameter& parameter) { return parameter.name == key; });
  return found == hyperparameters.end() ? nullptr : &*found;
}

const OptimizerRow* find_row(const Optimizer& optimizer) {
  for (const OptimizerRow& row : rows()) {
    if (row.is(optimizer)) return &row;
  }
  return nullptr;
}

const OptimizerRow& row_of(const Optimizer& optimizer) {
  if (const OptimizerRow* row = find_row(optimizer)) return *row;
  throw Error(Code::unsupported,
              "this optimizer is none of LibTorch's Adam, AdamW, SGD, RMSprop, Adagrad and LBFGS; give your class "
              "state_dict() and load_state_dict(value), which torchkeep then calls");
}

Value written(const Hyperparameter& hyperparameter, const OptimizerOptions& options, const Value& extras) {
  if (hyperparameter.get == nullptr) return extras.get(Value(hyperparameter.name), hyperparameter.initial);
  Value value = hyperparameter.get(options);
  // LibTorch's options are doubles; where Python's default is the int 0 or 1, an untouched option stays that int.
  const bool untouched = hyperparameter.initial.is(Kind::integer) && value.is(Kind::real) &&
                         value.as_real() == hyperparameter.initial.to<double>();
  return untouched ? hyperparameter.initial : value;
}

Value write_state(const OptimizerRow& row, const OptimizerParamState& state, const OptimizerOptions& options) {
  if (row.write != nullptr) return row.write(state, options);
  Value dict = Value::mapping(Kind::dict);
  auto& fields = const_cast<OptimizerParamState&>(state);  // LibTorch's accessors come in pairs; these only read
  for (const StateField& field : row.fields) {
    if (field.step != nullptr) {
      dict.set(field.name, step_value(field.step(fields)));
    } else if (const at::Tensor& tensor = field.tensor(fields); tensor.defined()) {
      dict.set(field.name, counted_leaf(tensor, true));
    }
  }
  return dict;
}

std::unique_ptr<OptimizerParamState> read_state(const OptimizerRow& row, const StateReader& reader) {
  if (row.read != nullptr) return row.read(reader);
  const std::size_t before = reader.problems.size();
  check_known(row, reader);
  auto state = row.new_state();
  bool empty = true;
  for (const StateField& field : row.fields) empty = empty && !reader.find(field.name);
  for (const StateField& field : row.fields) {
    const std::optional<Value> value = reader.find(field.name);
    if (!value && !empty && field.needed(reader.options)) {
      reader.problems.push_back(fmt::format("{}: missing in the file", field.name));
    } else if (value && field.step != nullptr) {
      reader.collect(field.name, [&] { field.step(*state) = read_step(*value); });
    } else if (value) {
      field.tensor(*state) = read_field(*value, field, reader);
    }
  }
  const bool nothing = empty || reader.problems.size() > before;
  return nothing ? nullptr : std::move(state);
}

}  // namespace torchkeep
