// SPDX-License-Identifier: BSD-3-Clause
// The row of LBFGS. One state for all parameters, of flat vectors, under the first parameter. Differences:
//   t       Python: the lr itself, or a 0-d tensor after the very first iteration; LibTorch: a double. Written as a
//           float (as the lr is written where it equals it): Python multiplies by it, with the same result.
//   H_diag  Python: the int 1 after the first iteration, then a 0-d tensor; LibTorch: an int64 tensor, then the same.
//   al      Python: a list with None where LibTorch has undefined tensors.
// After a zero first gradient both have the two counters only.
#include <fmt/format.h>

#include <torch/optim/lbfgs.h>
#include <torch/torch.h>

#include "optimizer_fields.h"
#include "optimizer_table.h"
#include "tensor_io.h"

namespace torchkeep {

namespace {

using torch::optim::LBFGS;
using torch::optim::LBFGSOptions;
using torch::optim::LBFGSParamState;

template <class Tensors>
Value list_of(const Tensors& tensors) {
  Value list = List{};
  for (const at::Tensor& tensor : tensors) list.append(tensor.defined() ? Value(detached_leaf(tensor)) : Value());
  return list;
}

Value h_diag_value(const at::Tensor& h_diag) {
  if (h_diag.scalar_type() == at::kLong) return h_diag.item<std::int64_t>();
  return detached_leaf(h_diag);
}

Value write(const OptimizerParamState& base, const OptimizerOptions& base_options) {
  const auto& state = static_cast<const LBFGSParamState&>(base);
  const auto& options = static_cast<const LBFGSOptions&>(base_options);
  Value dict = Value::mapping(Kind::dict);
  dict.set("func_evals", state.func_evals());
  dict.set("n_iter", state.n_iter());
  if (!state.d().defined()) return dict;
  const bool al_last =
      options.max_iter() == 1;  // Python makes it in the second iteration: within the first step, or later
  if (state.al() && !al_last) dict.set("al", list_of(*state.al()));
  dict.set("d", detached_leaf(state.d()));
  const bool is_lr = state.t() == options.lr();
  dict.set("t", is_lr && options.lr() == 1 ? Value(1) : Value(state.t()));
  dict.set("old_dirs", list_of(state.old_dirs()));
  dict.set("old_stps", list_of(state.old_stps()));
  dict.set("ro", list_of(state.ro()));
  dict.set("H_diag", h_diag_value(state.H_diag()));
  dict.set("prev_flat_grad", detached_leaf(state.prev_flat_grad()));
  dict.set("prev_loss", state.prev_loss());
  if (state.al() && al_last) dict.set("al", list_of(*state.al()));
  return dict;
}

/// Reads the entries of one LBFGS state.
class LbfgsReading {
 public:
  explicit LbfgsReading(const StateReader& reader) : reader_(reader), device_(reader.params.front().device()) {
    for (const at::Tensor& param : reader.params) numel_ += param.numel();
  }

  at::Tensor flat(const Value& value) const {
    const Tensor& leaf = value.as_tensor();
    if (leaf.sizes != std::vector<std::int64_t>{numel_}) {
      value.fail(Code::mismatch,
                 fmt::format("shape {} in the file, ({},) of the parameters together", shape_text(leaf.sizes), numel_));
    }
    return read_tensor(value, device_);
  }
  at::Tensor scalar(const Value& value) const {
    if (value.is(Kind::integer)) return torch::tensor(value.to<std::int64_t>(), device_);
    if (value.is(Kind::real)) return torch::tensor(value.to<double>(), reader_.params.front().options());
    if (value.as_tensor().numel() != 1) value.fail_kind("a number, or a tensor with one element");
    return read_tensor(value, device_).squeeze();
  }
  std::deque<at::Tensor> flats(const Value& value) const { return each(value, &LbfgsReading::flat); }
  std::deque<at::Tensor> scalars(const Value& value) const { return each(value, &LbfgsReading::scalar); }

 private:
  std::deque<at::Tensor> each(const Value& value, at::Tensor (LbfgsReading::*read)(const Value&) const) const {
    if (!value.is_sequence()) value.fail_kind("list");
    std::deque<at::Tensor> tensors;
    for (std::size_t i = 0; i < value.size(); ++i) {
      const Value element = value[static_cast<std::int64_t>(i)];
      tensors.push_back(element.is_none() ? at::Tensor() : (this->*read)(element));
    }
    return tensors;
  }

  const StateReader& reader_;
  c10::Device device_;
  std::int64_t numel_ = 0;
};

/// Runs `read` on an entry that must be there.
template <class Read>
void need(const StateReader& reader, std::string_view name, Read&& read) {
  const std::optional<Value> value = reader.find(name);
  if (!value) return reader.problems.push_back(fmt::format("{}: missing in the file", name));
  reader.collect(name, [&] { read(*value); });
}

void check_known(const StateReader& reader) {
  constexpr std::string_view kNames[] = {
      "func_evals", "n_iter", "al", "d", "t", "old_dirs", "old_stps", "ro", "H_diag", "prev_flat_grad", "prev_loss"};
  for (const Entry& entry : reader.state.items()) {
    const std::string key = entry.key.is(Kind::string) ? entry.key.as_string() : "a key that is no text";
    if (std::find(std::begin(kNames), std::end(kNames), key) == std::end(kNames)) {
      reader.problems.push_back(fmt::format("{}: no state of LBFGS", key));
    }
  }
}

/// LibTorch indexes these lists by one another's length.
void check_lengths(const LBFGSParamState& state, std::int64_t history_size, std::vector<std::string>& problems) {
  const std::size_t length = state.old_dirs().size();
  const auto holes = [](const std::deque<at::Tensor>& tensors) {
    return std::any_of(tensors.begin(), tensors.end(), [](const at::Tensor& tensor) { return !tensor.defined(); });
  };
  if (state.old_stps().size() != length || state.ro().size() != length || holes(state.old_dirs()) ||
      holes(state.old_stps()) || holes(state.ro())) {
    problems.push_back("old_dirs, old_stps, ro: must be lists of one length without None");
  }
  if (length > static_cast<std::size_t>(std::max<std::int64_t>(history_size, 0))) {
    problems.push_back(fmt::format("old_dirs: {} entries, history_size is {}", length, history_size));
  }
}

void read_direction(const StateReader& reader, LBFGSParamState& state) {
  const LbfgsReading reading(reader);
  need(reader, "d", [&](const Value& value) { state.d(reading.flat(value)); });
  need(reader, "t", [&](const Value& value) { state.t(read_number(value)); });
  need(reader, "old_dirs", [&](const Value& value) { state.old_dirs(reading.flats(value)); });
  need(reader, "old_stps", [&](const Value& value) { state.old_stps(reading.flats(value)); });
  need(reader, "ro", [&](const Value& value) { state.ro(reading.scalars(value)); });
  need(reader, "H_diag", [&](const Value& value) { state.H_diag(reading.scalar(value)); });
  need(reader, "prev_flat_grad", [&](const Value& value) { state.prev_flat_grad(reading.flat(value)); });
  need(reader, "prev_loss", [&](const Value& value) { state.prev_loss(read_number(value)); });
  if (const std::optional<Value> al = reader.find("al")) {
    reader.collect("al", [&] {
      const std::deque<at::Tensor> scalars = reading.scalars(*al);
      state.al(std::vector<at::Tensor>(scalars.begin(), scalars.end()));
    });
  }
  const std::int64_t history_size = static_cast<const LBFGSOptions&>(reader.options).history_size();
  check_lengths(state, history_size, reader.problems);
  // Scratch memory, written before it is read; LibTorch takes its length for granted.
  if (state.al() && history_size > 0) state.al()->resize(static_cast<std::size_t>(history_size));
}

std::unique_ptr<OptimizerParamState> read(const StateReader& reader) {
  if (reader.state.empty()) return nullptr;
  const std::size_t before = reader.problems.size();
  auto state = std::make_unique<LBFGSParamState>();
  check_known(reader);
  need(reader, "func_evals", [&](const Value& value) { state->func_evals(read_count(value)); });
  need(reader, "n_iter", [&](const Value& value) { state->n_iter(read_count(value)); });
  if (reader.find("d") || state->n_iter() > 0) read_direction(reader, *state);
  if (reader.problems.size() > before) return nullptr;
  return state;
}

Hyperparameter max_eval() {
  return {
      "max_eval", 25, Hyperparameter::Place::option,
      [](const OptimizerOptions& base) {
        const auto& options = static_cast<const LBFGSOptions&>(base);
        return Value(options.max_eval().value_or(options.max_iter() * 5 / 4));
      },
      [](OptimizerOptions& base, const Value& value) { static_cast<LBFGSOptions&>(base).max_eval(read_count(value)); }};
}

}  // namespace

OptimizerRow lbfgs_row() {
  using Options = LBFGSOptions;
  OptimizerRow row = make_row<LBFGS, Options, LBFGSParamState>("LBFGS");
  row.hyperparameters = {
      option<Options>(
          "lr", 1, [](auto& o) -> auto& { return o.lr(); }),
      option<Options>(
          "max_iter", 20, [](auto& o) -> auto& { return o.max_iter(); }),
      max_eval(),
      option<Options>(
          "tolerance_grad", 1e-7, [](auto& o) -> auto& { return o.tolerance_grad(); }),
      option<Options>(
          "tolerance_change", 1e-9, [](auto& o) -> auto& { return o.tolerance_change(); }),
      option<Options>(
          "history_size", 100, [](auto& o) -> auto& { return o.history_size(); }),
      option<Options>(
          "line_search_fn", none, [](auto& o) -> auto& { return o.line_search_fn(); }),
  };
  row.write = write;
  row.read = read;
  return row;
}

}  // namespace torchkeep
