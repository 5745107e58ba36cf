// SPDX-License-Identifier: BSD-3-Clause
// Copies of nodes, and destruction without recursion.
#include "node.h"

namespace torchkeep::detail {
namespace {

using Handles = std::vector<NodeHandle>;

void take(Value& value, Handles& handles) {
  auto& handle = NodeAccess::handle(value);
  if (handle) handles.push_back(std::move(handle));
}

void take_children(Node& node, Handles& handles) {
  // The children are about to be destroyed with the node, so changing them through the const view harms nobody.
  for_each_child(node, [&handles](const Value& value) { take(const_cast<Value&>(value), handles); });
}

bool may_have_children(const Node& node) {
  return node.kind >= Kind::list && node.kind != Kind::dtype && node.kind != Kind::device;
}

// The handles an outer end() of this thread is working through; an inner one adds its children there.
thread_local Handles* pending_handles = nullptr;

// Takes the children out of a node, and lets them go without recursion.
void drop_children(Node& node) {
  if (!may_have_children(node) && node.attributes().is_none()) return;
  if (pending_handles != nullptr) return take_children(node, *pending_handles);
  Handles handles;
  pending_handles = &handles;
  take_children(node, handles);
  while (!handles.empty()) {
    const NodeHandle last = std::move(handles.back());
    handles.pop_back();
  }
  pending_handles = nullptr;
}

}  // namespace

void destroy_node(Counted* counted) noexcept {
  auto* const node = static_cast<Node*>(counted);
  drop_children(*node);
  node->visit([node](const auto& content) { delete static_cast<NodeOf<std::decay_t<decltype(content)>>*>(node); });
}

void destroy_key_path(Counted* counted) noexcept {
  // A loop instead of the recursion that a long chain of parents would cause.
  while (counted != nullptr) {
    auto* const path = static_cast<KeyPath*>(counted);
    counted = path->parent.use_count() == 1 ? path->parent.release() : nullptr;
    delete path;
  }
}

NodeHandle copy_node(const Node& node) {
  NodeHandle copy = node.visit([&node](const auto& content) {
    return NodeHandle(new NodeOf<std::decay_t<decltype(content)>>(node.kind, content));
  });
  if (node.label() != 0) copy->set_label(node.label());
  if (!node.attributes().is_none()) copy->set_attributes(node.attributes());
  return copy;
}

}  // namespace torchkeep::detail
