// SPDX-License-Identifier: BSD-3-Clause
// Rewrites from the leaves up, with an explicit stack; a node none of whose parts changed is used as it is.
#include <deque>
#include <fmt/format.h>
#include <unordered_map>
#include <utility>
#include <vector>

#include <torchkeep/state/rewrite.h>

#include "node.h"

namespace torchkeep {

using detail::NodeAccess;

namespace {

// A part after rewriting.
struct Part {
  Value value;
  std::optional<Value> key;  // when renamed
  bool dropped = false;
};

struct Frame {
  Frame(const Value& value, Place place) : value(&value), place(std::move(place)), parts(value) {}
  const Value* value;
  Place place;
  Parts parts;
  std::vector<Part> results;
  bool changed = false;
};

class Rewriter {
 public:
  explicit Rewriter(const std::function<Edit(const Visit&)>& edit) : edit_(edit) {}

  Value run(const Value& root) {
    if (Parts(root).size() == 0) return root;
    stack_.emplace_back(root, Place{});
    for (;;) {
      Frame& top = stack_.back();
      if (top.results.size() < top.parts.size()) {
        next_part(top);
        continue;
      }
      Value result = top.changed ? rebuild(top) : *top.value;
      if (NodeAccess::use_count(*top.value) > 1) rewritten_.emplace(top.value->id(), result);
      stack_.pop_back();
      if (stack_.empty()) return result;
      deliver(stack_.back(), std::move(result));
    }
  }

 private:
  void next_part(Frame& top) {
    const std::size_t i = top.results.size();
    const Value& value = top.parts.value(i);
    Place place{&top.place, top.parts.step(i), top.place.depth + 1};
    const auto known = rewritten_.find(value.id());
    const bool repeated = known != rewritten_.end();
    Edit edit = edit_({value, place, repeated});
    top.changed = top.changed || edit.key || edit.what != Edit::What::keep;
    top.results.push_back({{}, std::move(edit.key), edit.what == Edit::What::drop});
    if (edit.what == Edit::What::replace) top.results.back().value = std::move(edit.value);
    if (edit.what != Edit::What::keep) return;
    if (repeated)
      deliver(top, known->second);
    else if (Parts(value).size() > 0)
      stack_.emplace_back(value, std::move(place));
    else
      deliver(top, value);
  }

  // Gives the frame the rewritten form of the part it asked for last.
  static void deliver(Frame& frame, Value value) {
    frame.changed = frame.changed || value.id() != frame.parts.value(frame.results.size() - 1).id();
    frame.results.back().value = std::move(value);
  }

  static Value rebuild(Frame& frame) {
    const Value& old = *frame.value;
    const Value& old_attributes = NodeAccess::node(old)->attributes();
    std::span<Part> parts = frame.results;
    std::optional<Part> attributes;
    if (!old_attributes.is_none()) {
      attributes = std::move(parts.back());
      parts = parts.first(parts.size() - 1);
    }
    Value result = rebuild_content(frame, parts);
    if (old.label() != 0) result.set_label(old.label());
    if (attributes) result.set_attributes(attributes->dropped ? Value() : attributes->value);
    return result;
  }

  static Value rebuild_content(const Frame& frame, std::span<Part> parts) {
    const Value& old = *frame.value;
    if (old.is_mapping()) return Value::mapping(old.kind(), entries(frame, old.items(), parts));
    switch (old.kind()) {
      case Kind::tensor:
        return old.as_tensor();
      case Kind::sparse_tensor: {
        SparseTensor tensor = old.as_sparse_tensor();
        tensor.indices = parts[0].value, tensor.plain = parts[1].value, tensor.values = parts[2].value;
        return tensor;
      }
      case Kind::nested_tensor:
        return NestedTensor{parts[0].value, parts[1].value, parts[2].value, parts[3].value};
      case Kind::opaque: {
        Opaque object = old.as_opaque();
        object.args = parts[0].value, object.kwargs = parts[1].value, object.state = parts[2].value;
        for (std::size_t i = 0; i < object.list_items.size(); ++i) object.list_items[i] = parts[3 + i].value;
        object.dict_items = entries(frame, object.dict_items, parts.subspan(3 + object.list_items.size()));
        return object;
      }
      default:
        break;
    }
    std::vector<Value> elements;
    elements.reserve(parts.size());
    for (Part& part : parts) elements.push_back(std::move(part.value));
    return Value::sequence(old.kind(), std::move(elements));
  }

  static std::vector<Entry> entries(const Frame& frame, std::span<const Entry> old, std::span<Part> parts) {
    std::vector<Entry> entries;
    entries.reserve(old.size());
    detail::Mapping keys;
    for (std::size_t i = 0; i < old.size(); ++i) {
      if (parts[i].dropped) continue;
      const Value key = parts[i].key.value_or(old[i].key);
      if (keys.find(key)) {
        const std::string text = Step{Step::Kind::key, key, 0, {}}.text();
        throw Error(Code::mismatch, fmt::format("two entries would get the key '{}'", text),
                    {.file = {}, .record = {}, .offset = {}, .key = frame.place.text()});
      }
      keys.set(key, none);
      entries.push_back({key, std::move(parts[i].value)});
    }
    return entries;
  }

  const std::function<Edit(const Visit&)>& edit_;
  std::deque<Frame> stack_;
  std::unordered_map<const void*, Value> rewritten_;  // shared containers
};

}  // namespace

Value rewrite(const Value& root, const std::function<Edit(const Visit&)>& edit) {
  return Rewriter(edit).run(root);
}

}  // namespace torchkeep
