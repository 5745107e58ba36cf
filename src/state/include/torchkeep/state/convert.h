// SPDX-License-Identifier: BSD-3-Clause
// Builders for each container (List, Tuple, Dict ...) and the Convert rows of the standard types.
#pragma once

#include <limits>
#include <map>
#include <string>
#include <tuple>
#include <type_traits>
#include <vector>

#include <torchkeep/state/value.h>

namespace torchkeep {

/// A Python list: List{1, "two", 3.0}.
struct List {
  std::vector<Value> elements;
  List() = default;
  List(std::initializer_list<Value> values) : elements(values) {}
  explicit List(std::vector<Value> values) : elements(std::move(values)) {}
};

/// A Python tuple: Tuple{0.9, 0.999}.
struct Tuple {
  std::vector<Value> elements;
  Tuple() = default;
  Tuple(std::initializer_list<Value> values) : elements(values) {}
  explicit Tuple(std::vector<Value> values) : elements(std::move(values)) {}
};

/// A Python set.
struct Set {
  std::vector<Value> elements;
  Set() = default;
  Set(std::initializer_list<Value> values) : elements(values) {}
};

/// torch.Size.
struct Size {
  std::vector<std::int64_t> sizes;
};

/// Python bytes.
struct ByteString {
  std::string data;
};

/// A Python dict with keys of any hashable kind: Dict{{0, "zero"}, {Tuple{1, 2}, "pair"}}.
struct Dict {
  std::vector<Entry> entries;
  Dict() = default;
  Dict(std::initializer_list<Entry> values) : entries(values) {}
};

/// A collections.OrderedDict.
struct OrderedDict {
  std::vector<Entry> entries;
  OrderedDict() = default;
  OrderedDict(std::initializer_list<Entry> values) : entries(values) {}
};

namespace detail {
/// Makers of leaf nodes; the Convert rows below call them.
Value make_boolean(bool value);
Value make_integer(Integer value);
Value make_real(double value);
Value make_complex(std::complex<double> value);
Value make_dtype(DType value);
Value make_device(Device value);
Value make_tensor(Tensor value);
Value make_sparse_tensor(SparseTensor value);
Value make_nested_tensor(NestedTensor value);
Value make_opaque(Opaque value);
std::int64_t to_int64(const Value& value, std::int64_t low, std::int64_t high);
std::uint64_t to_uint64(const Value& value, std::uint64_t high);
double to_double(const Value& value);
}  // namespace detail

template <>
struct Convert<bool> {
  static Value to_value(bool value) { return detail::make_boolean(value); }
  static bool from_value(const Value& value) { return value.as_boolean(); }
};

template <detail::PlainInteger T>
struct Convert<T> {
  static Value to_value(T value) {
    if constexpr (std::is_signed_v<T>)
      return detail::make_integer(Integer(value));
    else
      return detail::make_integer(Integer::from_unsigned(value));
  }
  static T from_value(const Value& value) {
    if constexpr (std::is_signed_v<T>) {
      return static_cast<T>(detail::to_int64(value, std::numeric_limits<T>::min(), std::numeric_limits<T>::max()));
    } else {
      return static_cast<T>(detail::to_uint64(value, std::numeric_limits<T>::max()));
    }
  }
};

template <std::floating_point T>
struct Convert<T> {
  static Value to_value(T value) { return detail::make_real(static_cast<double>(value)); }
  static T from_value(const Value& value) { return static_cast<T>(detail::to_double(value)); }
};

template <>
struct Convert<Integer> {
  static Value to_value(const Integer& value) { return detail::make_integer(value); }
  static Integer from_value(const Value& value) { return value.as_integer(); }
};

template <std::floating_point T>
struct Convert<std::complex<T>> {
  static Value to_value(std::complex<T> value) { return detail::make_complex({value.real(), value.imag()}); }
  static std::complex<T> from_value(const Value& value) {
    const auto number = value.as_complex();
    return {static_cast<T>(number.real()), static_cast<T>(number.imag())};
  }
};

template <>
struct Convert<std::string> {
  static Value to_value(const std::string& text) { return Value::string(text); }
  static std::string from_value(const Value& value) { return value.as_string(); }
};

template <>
struct Convert<std::string_view> {
  static Value to_value(std::string_view text) { return Value::string(std::string(text)); }
};

template <>
struct Convert<ByteString> {
  static Value to_value(const ByteString& bytes) { return Value::bytes(bytes.data); }
  static ByteString from_value(const Value& value) { return {value.as_bytes()}; }
};

template <>
struct Convert<DType> {
  static Value to_value(DType dtype) { return detail::make_dtype(dtype); }
  static DType from_value(const Value& value) { return value.as_dtype(); }
};

template <>
struct Convert<Device> {
  static Value to_value(const Device& device) { return detail::make_device(device); }
  static Device from_value(const Value& value) { return value.as_device(); }
};

template <>
struct Convert<Tensor> {
  static Value to_value(const Tensor& tensor) { return detail::make_tensor(tensor); }
  static Tensor from_value(const Value& value) { return value.as_tensor(); }
};

template <>
struct Convert<SparseTensor> {
  static Value to_value(const SparseTensor& tensor) { return detail::make_sparse_tensor(tensor); }
  static SparseTensor from_value(const Value& value) { return value.as_sparse_tensor(); }
};

template <>
struct Convert<NestedTensor> {
  static Value to_value(const NestedTensor& tensor) { return detail::make_nested_tensor(tensor); }
  static NestedTensor from_value(const Value& value) { return value.as_nested_tensor(); }
};

template <>
struct Convert<Opaque> {
  static Value to_value(const Opaque& object) { return detail::make_opaque(object); }
  static Opaque from_value(const Value& value) { return value.as_opaque(); }
};

template <>
struct Convert<List> {
  static Value to_value(const List& list) { return Value::sequence(Kind::list, list.elements); }
};

template <>
struct Convert<Tuple> {
  static Value to_value(const Tuple& tuple) { return Value::sequence(Kind::tuple, tuple.elements); }
};

template <>
struct Convert<Set> {
  static Value to_value(const Set& set) { return Value::sequence(Kind::set, set.elements); }
};

template <>
struct Convert<Dict> {
  static Value to_value(const Dict& dict) { return Value::mapping(Kind::dict, dict.entries); }
};

template <>
struct Convert<OrderedDict> {
  static Value to_value(const OrderedDict& dict) { return Value::mapping(Kind::ordered_dict, dict.entries); }
};

template <>
struct Convert<Size> {
  static Value to_value(const Size& size) {
    return Value::sequence(Kind::size, std::vector<Value>(size.sizes.begin(), size.sizes.end()));
  }
  static Size from_value(const Value& value) {
    if (!value.is(Kind::size)) value.fail_kind("torch.Size");
    Size size;
    for (const Value& element : value.elements()) size.sizes.push_back(element.to<std::int64_t>());
    return size;
  }
};

/// A list; from any list, tuple or torch.Size.
template <class T>
struct Convert<std::vector<T>> {
  static Value to_value(const std::vector<T>& elements) requires ToValue<T> || std::same_as<T, Value> {
    return Value::sequence(Kind::list, std::vector<Value>(elements.begin(), elements.end()));
  }
  static std::vector<T> from_value(const Value& value) requires FromValue<T> {
    if (!value.is_sequence()) value.fail_kind("list");
    std::vector<T> elements;
    elements.reserve(value.size());
    for (std::size_t i = 0; i < value.size(); ++i)
      elements.push_back(value[static_cast<std::int64_t>(i)].template to<T>());
    return elements;
  }
};

/// A dict with string keys, sorted as std::map sorts; from any mapping whose keys are strings.
template <class T>
struct Convert<std::map<std::string, T>> {
  static Value to_value(const std::map<std::string, T>& entries) requires ToValue<T> || std::same_as<T, Value> {
    Value dict = Value::mapping(Kind::dict);
    for (const auto& [key, value] : entries) dict.set(key, value);
    return dict;
  }
  static std::map<std::string, T> from_value(const Value& value) requires FromValue<T> {
    if (!value.is_mapping()) value.fail_kind("dict");
    std::map<std::string, T> entries;
    for (const Entry& entry : value.items())
      entries.emplace(entry.key.as_string(), value.at(entry.key).template to<T>());
    return entries;
  }
};

/// A tuple of two, as Python writes Adam's betas.
template <class A, class B>
struct Convert<std::pair<A, B>> {
  static Value to_value(const std::pair<A, B>& pair) requires ToValue<A> && ToValue<B> {
    return Value::sequence(Kind::tuple, {Value(pair.first), Value(pair.second)});
  }
  static std::pair<A, B> from_value(const Value& value) requires FromValue<A> && FromValue<B> {
    if (!value.is_sequence() || value.size() != 2) value.fail_kind("tuple of 2");
    return {value[0].template to<A>(), value[1].template to<B>()};
  }
};

/// None when empty.
template <class T>
struct Convert<std::optional<T>> {
  static Value to_value(const std::optional<T>& object) requires ToValue<T> {
    return object ? Value(*object) : Value();
  }
  static std::optional<T> from_value(const Value& value) requires FromValue<T> {
    if (value.is_none()) return std::nullopt;
    return value.to<T>();
  }
};

/// An object with Python's checkpoint protocol: it takes part in a checkpoint by having these two functions.
template <class T>
concept Stateful = !std::same_as<T, Value> && requires(T & object, const Value& value) {
  { object.state_dict() } -> std::convertible_to<Value>;
  object.load_state_dict(value);
};

/// What a Stateful object saves; of a const one, too, if its state_dict() is const.
template <class T>
requires Stateful<std::remove_const_t<T>> && requires(T& object) {
  object.state_dict();
}
Value state_dict(T& object) {
  return object.state_dict();
}

/// Gives a Stateful object its state back.
template <Stateful T>
void load_state_dict(T& object, const Value& value) {
  object.load_state_dict(value);
}

}  // namespace torchkeep
