// SPDX-License-Identifier: BSD-3-Clause
// Builders of table rows from LibTorch's accessors, which are overloaded and so are passed as generic lambdas.
#pragma once

#include <optional>
#include <string>
#include <tuple>
#include <type_traits>

#include <torchkeep/state/value.h>
#include <torchkeep/torch/group_extras.h>

#include "optimizer_table.h"

namespace torchkeep {

// How each type of option stands in Python's dict.
inline Value encode(double value) {
  return value;
}
inline Value encode(bool value) {
  return value;
}
inline Value encode(std::int64_t value) {
  return value;
}
inline Value encode(const std::tuple<double, double>& pair) {
  return Tuple{std::get<0>(pair), std::get<1>(pair)};
}
inline Value encode(const std::optional<std::string>& text) {
  return text ? Value(*text) : Value();
}

inline void decode(const Value& value, double& out) {
  out = read_number(value);
}
inline void decode(const Value& value, bool& out) {
  out = read_flag(value);
}
inline void decode(const Value& value, std::int64_t& out) {
  out = read_count(value);
}
inline void decode(const Value& value, std::tuple<double, double>& out) {
  if (!value.is_sequence() || value.size() != 2) value.fail_kind("a pair of numbers");
  out = {read_number(value[0]), read_number(value[1])};
}
inline void decode(const Value& value, std::optional<std::string>& out) {
  out = value.to<std::optional<std::string>>();
}

/// A hyperparameter that LibTorch has; `Access` gives its reference in the options.
template <class Options, class Access>
Hyperparameter option(std::string_view name, Value initial, Access) {
  return {name, std::move(initial), Hyperparameter::Place::option,
          [](const OptimizerOptions& options) { return encode(Access{}(static_cast<const Options&>(options))); },
          [](OptimizerOptions& options, const Value& value) {
            auto& place = Access{}(static_cast<Options&>(options));
            std::remove_cvref_t<decltype(place)> read{};
            decode(value, read);
            place = std::move(read);
          }};
}
inline Hyperparameter harmless(std::string_view name, Value initial) {
  return {name, std::move(initial), Hyperparameter::Place::harmless, nullptr, nullptr};
}
inline Hyperparameter fixed(std::string_view name, Value initial) {
  return {name, std::move(initial), Hyperparameter::Place::fixed, nullptr, nullptr};
}

inline bool always(const OptimizerOptions&) {
  return true;
}

template <class State, class Access>
StateField step(Access) {
  return {"step", [](OptimizerParamState& state) -> std::int64_t& { return Access{}(static_cast<State&>(state)); },
          nullptr, always};
}
template <class State, class Access>
StateField tensor(std::string_view name, Access, bool (*needed)(const OptimizerOptions&) = always) {
  return {name, nullptr, [](OptimizerParamState& state) -> at::Tensor& { return Access{}(static_cast<State&>(state)); },
          needed};
}

template <class Class, class Options, class State>
OptimizerRow make_row(std::string_view name) {
  OptimizerRow row;
  row.name = name;
  row.is = [](const Optimizer& optimizer) { return dynamic_cast<const Class*>(&optimizer) != nullptr; };
  row.new_state = [] { return std::unique_ptr<OptimizerParamState>(std::make_unique<State>()); };
  row.assign = [](OptimizerOptions& to, const OptimizerOptions& from) {
    static_cast<Options&>(to) = static_cast<const Options&>(from);
  };
  row.keep_extras = keep_group_extras<Options>;
  return row;
}

}  // namespace torchkeep
