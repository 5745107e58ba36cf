// SPDX-License-Identifier: BSD-3-Clause
// The node behind a Value, private to the state layer.
#pragma once

#include <atomic>
#include <memory>
#include <string>
#include <tuple>
#include <variant>

#include <torchkeep/state/value.h>

#include "mapping.h"

namespace torchkeep::detail {

/// What nodes hold, by kind: none has no node. string, bytes and bytearray hold std::string; list, tuple, size, set and
/// frozenset hold elements; the mappings hold a Mapping; back_reference holds nothing but its label.
using Contents = std::tuple<std::monostate, bool, Integer, double, std::complex<double>, std::string,
                            std::vector<Value>, Mapping, DType, Device, Tensor, SparseTensor, NestedTensor, Opaque>;

/// The place of T in Contents.
template <class T, std::size_t kFrom = 0>
constexpr std::uint8_t content_index() noexcept {
  if constexpr (std::is_same_v<std::tuple_element_t<kFrom, Contents>, T>)
    return kFrom;
  else
    return content_index<T, kFrom + 1>();
}

template <class T>
struct NodeOf;

/// What all nodes have. A checkpoint may have a million of them, so each is as large as its content needs (NodeOf), and
/// what hardly any has lies elsewhere.
struct Node : Counted {
  Kind kind;
  const std::uint8_t content;  ///< index into Contents

  /// The content, if it is a T.
  template <class T>
  T* get() noexcept {
    return content == content_index<T>() ? &static_cast<NodeOf<T>*>(this)->value : nullptr;
  }
  template <class T>
  const T* get() const noexcept {
    return const_cast<Node*>(this)->get<T>();
  }
  std::uint64_t label() const noexcept { return extra_ == nullptr ? 0 : extra_->label; }
  const Value& attributes() const noexcept { return extra_ == nullptr ? none : extra_->attributes; }
  void set_label(std::uint64_t label) { extra().label = label; }
  void set_attributes(Value attributes) { extra().attributes = std::move(attributes); }
  /// f(content) with the content as what it is.
  template <class F, std::size_t kAt = 0>
  decltype(auto) visit(F&& f) const;

 protected:
  Node(Kind kind, std::uint8_t content) noexcept : kind(kind), content(content) {}
  ~Node() = default;

 private:
  struct Extra {
    std::uint64_t label = 0;
    Value attributes;
  };
  Extra& extra() {
    if (extra_ == nullptr) extra_ = std::make_unique<Extra>();
    return *extra_;
  }
  std::unique_ptr<Extra> extra_;
};

/// A node with its content.
template <class T>
struct NodeOf final : Node {
  NodeOf(Kind kind, T value) : Node(kind, content_index<T>()), value(std::move(value)) {}
  T value;
};

/// A text, which may be a key of many dicts: the hash of a long one is kept.
template <>
struct NodeOf<std::string> final : Node {
  NodeOf(Kind kind, std::string value) : Node(kind, content_index<std::string>()), value(std::move(value)) {}
  std::string value;
  mutable std::atomic<std::uint64_t> hash{0};  ///< 0: not known yet
};

template <class F, std::size_t kAt>
decltype(auto) Node::visit(F&& f) const {
  using T = std::tuple_element_t<kAt, Contents>;
  if constexpr (kAt + 1 < std::tuple_size_v<Contents>) {
    if (content != kAt) return visit<F, kAt + 1>(std::forward<F>(f));
  }
  return f(static_cast<const NodeOf<T>*>(this)->value);
}

/// One step of the way a handle was read. The root step names the file.
struct KeyPath : Counted {
  KeyPathHandle parent;
  std::string step;
  bool is_file = false;
  KeyPath(KeyPathHandle parent, std::string step, bool is_file = false)
      : parent(std::move(parent)), step(std::move(step)), is_file(is_file) {}
};

/// What the files of this layer may do with a Value.
struct NodeAccess {
  static Node* node(const Value& value) noexcept { return value.node_.get(); }
  static NodeHandle& handle(Value& value) noexcept { return value.node_; }
  template <class T>
  static Value make(Kind kind, T content) {
    return Value(NodeHandle(new NodeOf<T>(kind, std::move(content))));
  }
  static Value wrap(NodeHandle node) noexcept { return Value(std::move(node)); }
  /// Handles to the node, over all Values.
  static std::uint32_t use_count(const Value& value) noexcept { return value.node_.use_count(); }
  /// `part` as read from `value` by `step`: it reports that place in errors.
  static Value child(const Value& value, const Value& part, std::string_view step) { return value.child(part, step); }
  /// Makes the handle forget where it was read.
  static void forget_place(Value& value) noexcept { value.path_.reset(); }
};

/// A copy of a node that shares its children.
NodeHandle copy_node(const Node& node);

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
  if (const auto* elements = node.get<std::vector<Value>>())
    each(*elements);
  else if (const auto* mapping = node.get<Mapping>())
    each_entry(mapping->entries());
  else if (const auto* sparse = node.get<SparseTensor>()) {
    f(sparse->indices), f(sparse->plain), f(sparse->values);
  } else if (const auto* nested = node.get<NestedTensor>()) {
    f(nested->buffer), f(nested->sizes), f(nested->strides), f(nested->offsets);
  } else if (const auto* opaque = node.get<Opaque>()) {
    f(opaque->args), f(opaque->kwargs), f(opaque->state);
    each(opaque->list_items);
    each_entry(opaque->dict_items);
  }
  if (const Value& attributes = node.attributes(); NodeAccess::node(attributes) != nullptr) f(attributes);
}
