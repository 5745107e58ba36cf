// SPDX-License-Identifier: BSD-3-Clause
// Copies of nodes, and destruction without recursion.
#include "node.h"

namespace torchkeep::detail {
namespace {

using Handles = std::vector<std::shared_ptr<Node>>;

void take(Value& value, Handles& handles) {
  auto& handle = NodeAccess::handle(value);
  if (handle != nullptr) handles.push_back(std::move(handle));
}

void take_children(Node& node, Handles& handles) {
  // The children are about to be destroyed with the node, so changing them through the const view harms nobody.
  for_each_child(node, [&handles](const Value& value) { take(const_cast<Value&>(value), handles); });
}

Payload copy_payload(const Payload& payload) {
  return std::visit(
      [](const auto& content) -> Payload {
        using T = std::decay_t<decltype(content)>;
        if constexpr (requires { typename T::element_type; })
          return std::make_unique<typename T::element_type>(*content);
        else
          return content;
      },
      payload);
}

bool may_have_children(const Node& node) {
  return node.kind >= Kind::list && node.kind != Kind::dtype && node.kind != Kind::device;
}

// The handles an outer ~Node of this thread is working through; an inner one adds its children there.
thread_local Handles* pending_handles = nullptr;

}  // namespace

Node::~Node() {
  if (!may_have_children(*this) && NodeAccess::node(attributes) == nullptr) return;
  if (pending_handles != nullptr) {
    take_children(*this, *pending_handles);
    return;
  }
  Handles handles;
  pending_handles = &handles;
  take_children(*this, handles);
  while (!handles.empty()) {
    const std::shared_ptr<Node> last = std::move(handles.back());
    handles.pop_back();
  }
  pending_handles = nullptr;
}

KeyPath::~KeyPath() {
  // A loop instead of the recursion that a long chain of parents would cause.
  while (parent != nullptr && parent.use_count() == 1) {
    auto grandparent = std::move(const_cast<KeyPath&>(*parent).parent);
    parent = std::move(grandparent);
  }
}

std::shared_ptr<Node> copy_node(const Node& node) {
  auto copy = std::make_shared<Node>(node.kind, copy_payload(node.payload));
  copy->label = node.label;
  copy->attributes = node.attributes;
  return copy;
}

}  // namespace torchkeep::detail
