// SPDX-License-Identifier: BSD-3-Clause
// Value::clone(), a snapshot, and what else makes a Value from another by changing its tensors.
#include <unordered_map>
#include <vector>

#include <torchkeep/state/rewrite.h>

#include "node.h"
#include "rebuild.h"

namespace torchkeep {

using detail::Mapping;
using detail::Node;
using detail::NodeAccess;

namespace {

/// Bottom-up, with an explicit stack.
class Rebuilder {
 public:
  explicit Rebuilder(const detail::TensorChange& change) : change_(change) {}

  Value run(const Value& root) {
    push(root);
    while (!pending_.empty()) {
      Frame& frame = pending_.back();
      const Node* node = frame.node;  // `frame` moves when children are pushed
      if (frame.expanded || done_.contains(node)) {
        pending_.pop_back();
        finish(*node);
      } else {
        frame.expanded = true;
        detail::for_each_child(*node, [this](const Value& value) { push(value); });
      }
    }
    return replacement(root);
  }

 private:
  struct Frame {
    const Node* node;
    bool expanded = false;
  };

  void push(const Value& value) {
    const Node* node = NodeAccess::node(value);
    if (node == nullptr || done_.contains(node)) return;
    if (node->kind < Kind::list && node->attributes().is_none()) return;  // a leaf is its own clone
    pending_.push_back({node});
  }

  Value replacement(const Value& value) const {
    const auto found = done_.find(NodeAccess::node(value));
    return found == done_.end() ? value : found->second;
  }

  void finish(const Node& node) {
    if (done_.contains(&node)) return;
    detail::NodeHandle copy = detail::copy_node(node);
    detail::for_each_child(*copy, [this](const Value& child) { const_cast<Value&>(child) = replacement(child); });
    if (auto* tensor = copy->get<Tensor>()) *tensor = changed(*tensor);
    if (auto* mapping = copy->get<Mapping>()) {
      // Keys that are hashed by identity have a new one.
      *mapping = Mapping(std::vector<Entry>(mapping->entries().begin(), mapping->entries().end()));
    }
    done_.emplace(&node, NodeAccess::wrap(std::move(copy)));
  }

  Tensor changed(Tensor tensor) const {
    change_(tensor);
    if (tensor.quantizer != nullptr) {
      auto quantizer = std::make_shared<Quantizer>(*tensor.quantizer);
      for (auto* part : {&quantizer->scales, &quantizer->zero_points}) {
        if (*part != nullptr) *part = std::make_shared<const Tensor>(changed(**part));
      }
      tensor.quantizer = std::move(quantizer);
    }
    return tensor;
  }

  const detail::TensorChange& change_;
  std::vector<Frame> pending_;
  std::unordered_map<const Node*, Value> done_;
};

}  // namespace

Value detail::rebuild(const Value& value, const TensorChange& change) {
  return Rebuilder(change).run(value);
}

Value with_storages(const Value& value, const std::function<StoragePtr(const StoragePtr&)>& change) {
  return detail::rebuild(value, [&change](Tensor& tensor) { tensor.storage = change(tensor.storage); });
}

Value Value::clone() const {
  std::unordered_map<const void*, StoragePtr> copies;
  return detail::rebuild(*this, [&copies](Tensor& tensor) {
    StoragePtr& copy = copies[tensor.storage->identity()];
    if (copy == nullptr) copy = materialize(*tensor.storage);
    tensor.storage = copy;
  });
}

}  // namespace torchkeep
