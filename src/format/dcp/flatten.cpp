// SPDX-License-Identifier: BSD-3-Clause
// Flattening: recursion whose depth is limited, for every level of it is a step of a path.
#include "flatten.h"

#include <fmt/format.h>
#include <unordered_map>

namespace torchkeep::dcp {
namespace {

constexpr std::size_t kDeepest = 500;
constexpr std::uint64_t kMostLeaves = std::uint64_t{1} << 24;

bool has_plain_keys(const Value& mapping) {
  for (const Entry& entry : mapping.items()) {
    if (!entry.key.is(Kind::string) && !entry.key.is(Kind::integer) && !entry.key.is(Kind::boolean)) return false;
  }
  return true;
}

// Whether torch.distributed.checkpoint would look into this list.
bool holds_tensor_or_dict(const Value& list, std::size_t depth) {
  if (depth > kDeepest) return false;
  for (const Value& element : list.elements()) {
    const bool is_any_tensor =
        element.is(Kind::tensor) || element.is(Kind::sparse_tensor) || element.is(Kind::nested_tensor);
    if (is_any_tensor || element.is_mapping()) return true;
    if (element.is(Kind::list) && holds_tensor_or_dict(element, depth + 1)) return true;
  }
  return false;
}

bool is_descended(const Value& value) {
  if (value.is_mapping()) return has_plain_keys(value);
  return value.is(Kind::list) && holds_tensor_or_dict(value, 0);
}

// As str() of Python has it.
std::string key_text(const Value& key) {
  if (key.is(Kind::string)) return key.as_string();
  if (key.is(Kind::boolean)) return key.as_boolean() ? "True" : "False";
  return key.as_integer().to_decimal();
}

class Flattener {
 public:
  Flattener(Tensors tensors, const std::function<Value(const Leaf&)>& change) : tensors_(tensors), change_(change) {}

  Value run(const Value& root, const Path& prefix) {
    for (const PathStep& step : prefix) push(step);
    return visit(root);
  }

 private:
  void push(const PathStep& step) {
    ends_.push_back(leaf_.fqn.size());
    if (!leaf_.path.empty()) leaf_.fqn += '.';
    if (const auto* key = std::get_if<std::string>(&step))
      leaf_.fqn += *key;
    else
      leaf_.fqn += fmt::format("{}", std::get<std::int64_t>(step));
    leaf_.path.push_back(step);
  }
  void pop() {
    leaf_.path.pop_back();
    leaf_.fqn.resize(ends_.back());
    ends_.pop_back();
  }

  [[noreturn]] void fail(std::string message) const {
    throw Error(Code::unsupported, std::move(message), {.file = {}, .record = {}, .offset = {}, .key = leaf_.fqn});
  }

  Value visit(const Value& value) {
    if (value.is(Kind::back_reference) || (value.label() != 0 && is_descended(value)))
      fail("a list or dict that contains itself: torch.distributed.checkpoint has no place for it");
    if (!is_descended(value)) return leaf(value);
    if (leaf_.path.size() >= kDeepest) fail(fmt::format("more than {} levels of dicts and lists", kDeepest));
    Value copy = value.is_mapping() ? visit_mapping(value) : visit_list(value);
    return value.is_shared() ? copies_.emplace(value.id(), std::move(copy)).first->second : copy;
  }

  Value visit_mapping(const Value& value) {
    std::vector<Entry> entries;
    entries.reserve(value.items().size());
    for (const Entry& entry : value.items()) {
      push(key_text(entry.key));
      entries.push_back({entry.key, visit(entry.value)});
      pop();
    }
    Value copy = Value::mapping(value.kind(), std::move(entries));
    if (const Value attributes = value.attributes(); !attributes.is_none()) copy.set_attributes(attributes);
    return copy;
  }

  Value visit_list(const Value& value) {
    std::vector<Value> elements;
    elements.reserve(value.elements().size());
    for (const Value& element : value.elements()) {
      push(static_cast<std::int64_t>(elements.size()));
      elements.push_back(visit(element));
      pop();
    }
    return Value::sequence(Kind::list, std::move(elements));
  }

  Value leaf(const Value& value) {
    if (++count_ > kMostLeaves) fail(fmt::format("more than {} tensors and values", kMostLeaves));
    leaf_.value = value;
    leaf_.is_tensor = is_chunked(value);
    Value changed = change_(leaf_);
    return value.is_shared() ? copies_.emplace(value.id(), std::move(changed)).first->second : changed;
  }

  bool is_chunked(const Value& value) const {
    if (!value.is(Kind::tensor)) return false;
    const Tensor& tensor = value.as_tensor();
    if (tensors_ == Tensors::meta) return tensor.is_meta();
    if (tensor.is_meta()) fail("a tensor of the device meta has no elements to save");
    return tensor.quantizer == nullptr && !tensor.is_conj && !tensor.is_neg && value.attributes().is_none();
  }

  Tensors tensors_;
  const std::function<Value(const Leaf&)>& change_;
  Leaf leaf_;                                      // the one that is visited
  std::vector<std::size_t> ends_;                  // of the name before each step
  std::unordered_map<const void*, Value> copies_;  // of what is shared
  std::uint64_t count_ = 0;
};

}  // namespace

Value flatten(const Value& root, const Path& prefix, Tensors tensors, const std::function<Value(const Leaf&)>& change) {
  return Flattener(tensors, change).run(root, prefix);
}

}  // namespace torchkeep::dcp
