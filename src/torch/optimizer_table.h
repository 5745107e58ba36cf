// SPDX-License-Identifier: BSD-3-Clause
// One row per LibTorch optimizer: how its options and states stand in Python's Optimizer.state_dict().
#pragma once

#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <torch/optim/optimizer.h>

#include <torchkeep/format/live_reader.h>
#include <torchkeep/state/value.h>

namespace torchkeep {

using torch::optim::Optimizer;
using torch::optim::OptimizerOptions;
using torch::optim::OptimizerParamState;

/// An entry of Python's group dict.
struct Hyperparameter {
  enum class Place {
    option,    ///< LibTorch has it
    harmless,  ///< Python only; how the sums are done, not which
    fixed,     ///< Python only; another value than `initial` is other mathematics
  };
  std::string_view name;
  Value initial;  ///< Python's default, of Python's type
  Place place = Place::option;
  Value (*get)(const OptimizerOptions&) = nullptr;
  void (*set)(OptimizerOptions&, const Value&) = nullptr;  ///< throws Error (mismatch) for a wrong kind
};

/// An entry of Python's state of one parameter: the counter `step`, or a tensor shaped like the parameter.
struct StateField {
  std::string_view name;
  std::int64_t& (*step)(OptimizerParamState&) = nullptr;
  at::Tensor& (*tensor)(OptimizerParamState&) = nullptr;
  /// Whether LibTorch's next step() needs it, given the group's options.
  bool (*needed)(const OptimizerOptions&) = nullptr;
};

/// What reading one parameter's state needs to know and what it finds wrong.
struct StateReader {
  const Value& state;                  ///< a mapping
  const OptimizerOptions& options;     ///< as they will be after the load
  std::span<const at::Tensor> params;  ///< the parameter; all of the group for LBFGS
  std::vector<std::string>& problems;
  OptimizerParamState* live = nullptr;  ///< the state there is now, whose tensors may be read into
  LiveReader* live_reader = nullptr;    ///< collects what is to be read into tensors of the state

  /// The entry, or nothing where it is absent or None.
  std::optional<Value> find(std::string_view name) const;
  /// Runs `read`; an Error becomes a problem "name: message".
  template <class Read>
  void collect(std::string_view name, Read&& read) const {
    try {
      read();
    } catch (const Error& error) {
      problems.push_back(std::string(name) + ": " + error.message());
    }
  }
};

struct OptimizerRow {
  std::string_view name;
  bool (*is)(const Optimizer&);
  std::vector<Hyperparameter> hyperparameters;  ///< in Python's order
  std::vector<StateField> fields;               ///< in Python's order; empty for LBFGS, which has the two functions
  std::unique_ptr<OptimizerParamState> (*new_state)();
  void (*assign)(OptimizerOptions& to, const OptimizerOptions& from);
  void (*keep_extras)(Optimizer&);
  /// The state LibTorch makes in its constructor (Adagrad); null for the others, which make it in step().
  std::unique_ptr<OptimizerParamState> (*first_state)(const at::Tensor& param, const OptimizerOptions&) = nullptr;
  /// One state for the whole group, under its first parameter (LBFGS).
  Value (*write)(const OptimizerParamState&, const OptimizerOptions&) = nullptr;
  std::unique_ptr<OptimizerParamState> (*read)(const StateReader&) = nullptr;

  bool is_per_group() const { return write != nullptr; }
  const Hyperparameter* find(std::string_view key) const;
};

/// The row of an optimizer, or null for a class that is none of LibTorch's.
const OptimizerRow* find_row(const Optimizer& optimizer);
/// The same; throws Error (unsupported), saying what to do.
const OptimizerRow& row_of(const Optimizer& optimizer);
/// The row of LBFGS, in a file of its own.
OptimizerRow lbfgs_row();

/// The group dict's value under a hyperparameter's name.
Value written(const Hyperparameter& hyperparameter, const OptimizerOptions& options, const Value& extras);
/// One parameter's state (of the whole group for LBFGS) as Python's dict; empty when there is nothing in it.
Value write_state(const OptimizerRow& row, const OptimizerParamState& state, const OptimizerOptions& options);
/// The state in the file as LibTorch's; null when the file has none or there are problems.
std::unique_ptr<OptimizerParamState> read_state(const OptimizerRow& row, const StateReader& reader);

// ---- kinds of values ----

/// `step` as Python stores it: a 0-d tensor of float32, or of float64 when that is the default dtype or when float32
/// cannot count on. Throws Error (unsupported) beyond 2^53.
Value step_value(std::int64_t step);
/// Python's step of any version: an int, a float, a 0-d tensor.
std::int64_t read_step(const Value& value);
/// A number, or the number in a tensor with one element.
double read_number(const Value& value);
std::int64_t read_count(const Value& value);
bool read_flag(const Value& value);
/// A tensor of its own with the leaf's bits and strides on `device`.
at::Tensor read_tensor(const Value& value, const c10::Device& device);
/// The same for the tensor of a field: where its bytes are still in the file, the live tensor if it fits, else a new
/// one, into which `reader` is to read them later.
at::Tensor read_tensor_later(const Value& value, const at::Tensor& live, const c10::Device& device, LiveReader* reader);

}  // namespace torchkeep
