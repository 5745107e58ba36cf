// SPDX-License-Identifier: BSD-3-Clause
// The node behind a Value, private to the state layer.
#pragma once

#include <memory>
#include <variant>

#include <torchkeep/state/value.h>

#include "mapping.h"

namespace torchkeep::detail {

/// Payload by kind: none has no node. string, bytes and bytearray hold std::string; list, tuple, size, set and
/// frozenset hold elements (sets with an index); the mappings hold a Mapping; back_reference holds nothing but its
/// label.
using Payload = std::variant<std::monostate, bool, Integer, double, std::complex<double>, std::string,
                             std::vector<Value>, Mapping, DType, Device, Tensor, std::unique_ptr<SparseTensor>,
                             std::unique_ptr<NestedTensor>, std::unique_ptr<Opaque>>;

struct Node {
  Node(Kind kind, Payload payload) noexcept : kind(kind), payload(std::move(payload)) {}
  Node(const Node&) = delete;
  Node& operator=(const Node&) = delete;
  ~Node();

  Kind kind;
  std::uint64_t label = 0;
  Payload payload;
  Value attributes;
};

/// One step of the way a handle was read. The root step names the file.
struct KeyPath {
  std::shared_ptr<const KeyPath> parent;
  std::string step;
  bool is_file = false;
  KeyPath(std::shared_ptr<const KeyPath> parent, std::string step, bool is_file = false)
      : parent(std::move(parent)), step(std::move(step)), is_file(is_file) {}
  KeyPath(const KeyPath&) = delete;
  KeyPath& operator=(const KeyPath&) = delete;
  ~KeyPath();
};

/// What the files of this layer may do with a Value.
struct NodeAccess {
  static Node* node(const Value& value) noexcept { return value.node_.get(); }
  static std::shared_ptr<Node>& handle(Value& value) noexcept { return value.node_; }
  static Value make(Kind kind, Payload payload) { return Value(std::make_shared<Node>(kind, std::move(payload))); }
  static Value wrap(std::shared_ptr<Node> node) noexcept { return Value(std::move(node)); }
  /// Handles to the node, over all Values.
  static long use_count(const Value& value) noexcept { return value.node_.use_count(); }
  /// `part` as read from `value` by `step`: it reports that place in errors.
  static Value child(const Value& value, const Value& part, std::string_view step) { return value.child(part, step); }
  /// Makes the handle forget where it was read.
  static void forget_place(Value& value) noexcept { value.path_.reset(); }
};

/// A copy of a node that shares its children.
std::shared_ptr<Node> copy_node(const Node& node);

/// Calls f(const Value&) for every child, keys before their values, attributes last.
template <class F>
void for_each_child(const Node& node, F&& f);

}  // namespace torchkeep::detail

template <class F>
void torchkeep::detail::for_each_child(const Node& node, F&& f) {
  const auto each = [&f](const auto& values) {
    for (const Value& value : values) f(value);
  };
  const auto each_entry = [&f](const auto& entries) {
    for (const Entry& entry : entries) f(entry.key), f(entry.value);
  };
  if (const auto* elements = std::get_if<std::vector<Value>>(&node.payload))
    each(*elements);
  else if (const auto* mapping = std::get_if<Mapping>(&node.payload))
    each_entry(mapping->entries());
  else if (const auto* sparse = std::get_if<std::unique_ptr<SparseTensor>>(&node.payload)) {
    f((*sparse)->indices), f((*sparse)->plain), f((*sparse)->values);
  } else if (const auto* nested = std::get_if<std::unique_ptr<NestedTensor>>(&node.payload)) {
    f((*nested)->buffer), f((*nested)->sizes), f((*nested)->strides), f((*nested)->offsets);
  } else if (const auto* opaque = std::get_if<std::unique_ptr<Opaque>>(&node.payload)) {
    f((*opaque)->args), f((*opaque)->kwargs), f((*opaque)->state);
    each((*opaque)->list_items);
    each_entry((*opaque)->dict_items);
  }
  if (NodeAccess::node(node.attributes) != nullptr) f(node.attributes);
}
