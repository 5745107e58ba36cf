// SPDX-License-Identifier: BSD-3-Clause
// Building, reading and changing Values.
#include <atomic>
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <limits>

#include <torchkeep/state/value.h>

#include "node.h"

namespace torchkeep {

using detail::Mapping;
using detail::Node;
using detail::NodeAccess;

namespace {

// Errors list this many keys of a dict, and this much of a string.
constexpr std::size_t kShownKeys = 12;
constexpr std::size_t kShownText = 40;

std::string show_key(const Value& key) {
  switch (key.kind()) {
    case Kind::string:
      return key.as_string();
    case Kind::integer:
      return key.as_integer().to_decimal();
    default:
      return fmt::format("<{}>", to_string(key.kind()));
  }
}

std::string shorten(const std::string& text) {
  return text.size() <= kShownText ? text : text.substr(0, kShownText) + "...";
}

std::string describe(const Value& value) {
  switch (value.kind()) {
    case Kind::none:
      return "None";
    case Kind::boolean:
      return value.as_boolean() ? "bool True" : "bool False";
    case Kind::integer:
      return "int " + value.as_integer().to_decimal();
    case Kind::real:
      return fmt::format("float {}", value.as_real());
    case Kind::string:
      return fmt::format("str '{}'", shorten(value.as_string()));
    case Kind::tensor:
      return fmt::format("torch.Tensor {} [{}]", to_string(value.as_tensor().dtype),
                         fmt::join(value.as_tensor().sizes, ", "));
    case Kind::opaque:
      return fmt::format("object of {}.{}", value.as_opaque().module, value.as_opaque().name);
    default:
      break;
  }
  if (value.is_mapping() || value.is_sequence()) return fmt::format("{} of {}", to_string(value.kind()), value.size());
  return std::string(to_string(value.kind()));
}

std::string list_keys(const Value& mapping) {
  const auto items = mapping.items();
  if (items.empty()) return "it is empty";
  std::string text = "there are: ";
  for (std::size_t i = 0; i < items.size() && i < kShownKeys; ++i) {
    text += fmt::format("{}'{}'", i == 0 ? "" : ", ", shorten(show_key(items[i].key)));
  }
  if (items.size() > kShownKeys) text += fmt::format(", ... ({} in all)", items.size());
  return text;
}

void check_kind(bool fits, Kind kind, std::string_view maker) {
  if (!fits) throw Error(Code::invalid_argument, fmt::format("{} cannot make a {}", maker, to_string(kind)));
}

template <class T>
const T& content_of(const Value& value, std::string_view expected) {
  const Node* node = NodeAccess::node(value);
  const T* content = node == nullptr ? nullptr : node->get<T>();
  if (content == nullptr) value.fail_kind(expected);
  return *content;
}

}  // namespace

std::string_view to_string(Kind kind) noexcept {
  constexpr std::string_view kNames[] = {
      "None",  "bool",   "int",          "float",         "complex",       "str",     "bytes",         "bytearray",
      "list",  "tuple",  "torch.Size",   "dict",          "OrderedDict",   "Counter", "set",           "frozenset",
      "dtype", "device", "torch.Tensor", "sparse tensor", "nested tensor", "object",  "back reference"};
  return kNames[static_cast<std::size_t>(kind)];
}

Value::Value(const char* text) : Value(Value::string(text)) {}

Value::Value(std::initializer_list<std::pair<std::string, Value>> entries) : Value(Value::mapping(Kind::dict)) {
  for (const auto& [key, value] : entries) set(Value::string(key), value);
}

Value Value::string(std::string text) {
  return NodeAccess::make(Kind::string, std::move(text));
}

Value Value::bytes(std::string data, Kind kind) {
  check_kind(kind == Kind::bytes || kind == Kind::bytearray, kind, "Value::bytes");
  return NodeAccess::make(kind, std::move(data));
}

Value Value::sequence(Kind kind, std::vector<Value> elements) {
  const bool is_set = kind == Kind::set || kind == Kind::frozenset;
  check_kind(is_set || kind == Kind::list || kind == Kind::tuple || kind == Kind::size, kind, "Value::sequence");
  for (Value& element : elements) NodeAccess::forget_place(element);
  if (is_set) {
    Mapping unique;
    for (const Value& element : elements) unique.set(element, none);
    if (unique.size() != elements.size()) throw Error(Code::invalid_argument, "a set has the same element twice");
  }
  return NodeAccess::make(kind, std::move(elements));
}

Value Value::mapping(Kind kind) {
  return mapping(kind, std::vector<Entry>());
}

Value Value::mapping(Kind kind, std::vector<Entry> entries) {
  check_kind(kind == Kind::dict || kind == Kind::ordered_dict || kind == Kind::counter, kind, "Value::mapping");
  for (Entry& entry : entries) {
    NodeAccess::forget_place(entry.key);
    NodeAccess::forget_place(entry.value);
  }
  return NodeAccess::make(kind, Mapping(std::move(entries)));
}

Value Value::back_reference(std::uint64_t label) {
  Value value = NodeAccess::make(Kind::back_reference, std::monostate());
  NodeAccess::node(value)->set_label(label);
  return value;
}

Kind Value::kind() const noexcept {
  return !node_ ? Kind::none : node_->kind;
}

bool Value::is_mapping() const noexcept {
  return kind() >= Kind::dict && kind() <= Kind::counter;
}

bool Value::is_sequence() const noexcept {
  return kind() >= Kind::list && kind() <= Kind::size;
}

Value Value::operator[](std::string_view key) const {
  const auto& mapping = content_of<Mapping>(*this, "dict");
  if (const auto position = mapping.find(key)) return child(mapping.entries()[*position].value, key);
  child(*this, key).fail(Code::not_found, "no such key; " + list_keys(*this));
}

Value Value::operator[](std::int64_t index) const {
  if (is_mapping()) return at(Value(index));
  if (!is_sequence()) fail_kind("list or dict");
  const auto elements = this->elements();
  const auto count = static_cast<std::int64_t>(elements.size());
  const std::int64_t position = index < 0 ? index + count : index;
  if (position < 0 || position >= count) {
    fail(Code::not_found, fmt::format("no element {}; the {} has {}", index, to_string(kind()), count));
  }
  return child(elements[static_cast<std::size_t>(position)], fmt::format("{}", position));
}

Value Value::at(const Value& key) const {
  if (auto value = find(key)) return *value;
  child(*this, show_key(key)).fail(Code::not_found, "no such key; " + list_keys(*this));
}

std::optional<Value> Value::find(const Value& key) const {
  const auto& mapping = content_of<Mapping>(*this, "dict");
  const auto position = mapping.find(key);
  if (!position) return std::nullopt;
  return child(mapping.entries()[*position].value, show_key(key));
}

Value Value::get(const Value& key, Value fallback) const {
  auto value = find(key);
  return value ? *std::move(value) : std::move(fallback);
}

std::size_t Value::size() const {
  if (is(Kind::string)) return as_string().size();
  if (is(Kind::bytes) || is(Kind::bytearray)) return as_bytes().size();
  if (is_mapping()) return items().size();
  return elements().size();
}

std::span<const Entry> Value::items() const& {
  return content_of<Mapping>(*this, "dict").entries();
}

std::span<const Value> Value::elements() const& {
  return content_of<std::vector<Value>>(*this, "list, tuple or set");
}

Node& Value::own() {
  if (node_.use_count() > 1) node_ = detail::copy_node(*node_);
  return *node_;
}

void Value::set(const Value& key, Value value) & {
  content_of<Mapping>(*this, "dict");
  Value bare_key = key;
  NodeAccess::forget_place(bare_key);
  NodeAccess::forget_place(value);
  own().get<Mapping>()->set(bare_key, std::move(value));
}

bool Value::erase(const Value& key) & {
  if (!contains(key)) return false;
  return own().get<Mapping>()->erase(key);
}

void Value::append(Value value) & {
  if (!is(Kind::list)) fail_kind("list");
  NodeAccess::forget_place(value);
  own().get<std::vector<Value>>()->push_back(std::move(value));
}

Value Value::attributes() const {
  return !node_ ? Value() : child(node_->attributes(), "attributes");
}

void Value::set_attributes(Value attributes) & {
  if (!node_) fail_kind("an object that can have attributes");
  if (!attributes.is_none() && !attributes.is_mapping()) attributes.fail_kind("dict or None");
  NodeAccess::forget_place(attributes);
  own().set_attributes(std::move(attributes));
}

std::uint64_t Value::label() const noexcept {
  return !node_ ? 0 : node_->label();
}

void Value::set_label(std::uint64_t label) & {
  if (!node_) fail_kind("a container");
  own().set_label(label);
}

std::uint64_t Value::new_label() noexcept {
  static std::atomic<std::uint64_t> next{1};
  return next.fetch_add(1, std::memory_order_relaxed);
}

bool Value::as_boolean() const {
  return content_of<bool>(*this, "bool");
}

const Integer& Value::as_integer() const& {
  return content_of<Integer>(*this, "int");
}

double Value::as_real() const {
  return content_of<double>(*this, "float");
}

std::complex<double> Value::as_complex() const {
  return content_of<std::complex<double>>(*this, "complex");
}

const std::string& Value::as_string() const& {
  if (!is(Kind::string)) fail_kind("str");
  return *node_->get<std::string>();
}

const std::string& Value::as_bytes() const& {
  if (!is(Kind::bytes) && !is(Kind::bytearray)) fail_kind("bytes");
  return *node_->get<std::string>();
}

DType Value::as_dtype() const {
  return content_of<DType>(*this, "dtype");
}

const Device& Value::as_device() const& {
  return content_of<Device>(*this, "device");
}

const Tensor& Value::as_tensor() const& {
  return content_of<Tensor>(*this, "torch.Tensor");
}

const SparseTensor& Value::as_sparse_tensor() const& {
  return content_of<SparseTensor>(*this, "sparse tensor");
}

const NestedTensor& Value::as_nested_tensor() const& {
  return content_of<NestedTensor>(*this, "nested tensor");
}

const Opaque& Value::as_opaque() const& {
  return content_of<Opaque>(*this, "object");
}

Value Value::child(const Value& value, std::string_view step) const {
  Value result = value;
  result.path_ = detail::KeyPathHandle(new detail::KeyPath(path_, std::string(step)));
  return result;
}

Value Value::from_file(std::string file) const {
  Value result = *this;
  result.path_ = detail::KeyPathHandle(new detail::KeyPath({}, std::move(file), true));
  return result;
}

Where Value::where() const {
  Where where;
  std::vector<const std::string*> steps;
  for (const auto* path = path_.get(); path != nullptr; path = path->parent.get()) {
    if (path->is_file)
      where.file = path->step;
    else
      steps.push_back(&path->step);
  }
  for (auto step = steps.rbegin(); step != steps.rend(); ++step) {
    if (!where.key.empty()) where.key += '.';
    where.key += **step;
  }
  return where;
}

std::string Value::key_path() const {
  return where().key;
}

void Value::fail(Code code, std::string message) const {
  throw Error(code, std::move(message), where());
}

void Value::fail_kind(std::string_view expected) const {
  fail(Code::mismatch, fmt::format("expected {}, found {}", expected, describe(*this)));
}

namespace detail {

Value make_boolean(bool value) {
  return NodeAccess::make(Kind::boolean, value);
}
Value make_integer(Integer value) {
  return NodeAccess::make(Kind::integer, std::move(value));
}
Value make_real(double value) {
  return NodeAccess::make(Kind::real, value);
}
Value make_complex(std::complex<double> value) {
  return NodeAccess::make(Kind::complex, value);
}
Value make_dtype(DType value) {
  return NodeAccess::make(Kind::dtype, value);
}
Value make_device(Device value) {
  return NodeAccess::make(Kind::device, std::move(value));
}
Value make_sparse_tensor(SparseTensor value) {
  return NodeAccess::make(Kind::sparse_tensor, std::move(value));
}
Value make_nested_tensor(NestedTensor value) {
  return NodeAccess::make(Kind::nested_tensor, std::move(value));
}
Value make_opaque(Opaque value) {
  return NodeAccess::make(Kind::opaque, std::move(value));
}

Value make_tensor(Tensor value) {
  value.validate();
  return NodeAccess::make(Kind::tensor, std::move(value));
}

std::int64_t to_int64(const Value& value, std::int64_t low, std::int64_t high) {
  const auto number = value.as_integer().to_int64();
  if (!number || *number < low || *number > high) {
    value.fail(Code::mismatch,
               fmt::format("{} does not fit into [{}, {}]", value.as_integer().to_decimal(), low, high));
  }
  return *number;
}

std::uint64_t to_uint64(const Value& value, std::uint64_t high) {
  const auto number = value.as_integer().to_uint64();
  if (!number || *number > high) {
    value.fail(Code::mismatch, fmt::format("{} does not fit into [0, {}]", value.as_integer().to_decimal(), high));
  }
  return *number;
}

double to_double(const Value& value) {
  if (value.is(Kind::integer)) return value.as_integer().to_double();
  if (!value.is(Kind::real)) value.fail_kind("float or int");
  return value.as_real();
}

}  // namespace detail
}  // namespace torchkeep
