// SPDX-License-Identifier: BSD-3-Clause
// A tree of dicts and lists, built path by path.
#include "nest.h"

#include <fmt/format.h>

#include "show.h"

namespace torchkeep::dcp {
namespace {

constexpr std::size_t kDeepest = 500;

[[noreturn]] void contradiction() {
  throw Error(Code::corrupt, "its path in planner_data goes through what is something else in another path");
}

}  // namespace

void Nest::set(const Path& path, Value value) {
  if (path.size() > kDeepest) {
    throw Error(Code::refused,
                fmt::format("a path of {} steps in planner_data; the limit is {}", path.size(), kDeepest));
  }
  Node* node = &root_;
  for (const PathStep& step : path) node = &child(*node, step);
  if (node->kind != Node::Kind::gap) contradiction();
  node->kind = Node::Kind::leaf;
  node->leaf = std::move(value);
}

Nest::Node& Nest::child(Node& node, const PathStep& step) {
  const auto* key = std::get_if<std::string>(&step);
  const Node::Kind kind = key != nullptr ? Node::Kind::dict : Node::Kind::list;
  if (node.kind == Node::Kind::gap) node.kind = kind;
  if (node.kind != kind) contradiction();
  if (key != nullptr) {
    const auto [found, is_new] = node.index.emplace(*key, node.children.size());
    if (is_new) {
      node.keys.push_back(*key);
      node.children.push_back(std::make_unique<Node>());
    }
    return *node.children[found->second];
  }
  const auto index = static_cast<std::uint64_t>(std::get<std::int64_t>(step));
  if (index >= node.children.size()) {
    const std::uint64_t gaps = index - node.children.size();
    if (gaps > gaps_left_) {
      throw Error(Code::refused, fmt::format("its path in planner_data leaves {} elements of a list empty", gaps));
    }
    gaps_left_ -= gaps;
    node.children.resize(static_cast<std::size_t>(index) + 1);
  }
  auto& place = node.children[static_cast<std::size_t>(index)];
  if (place == nullptr) place = std::make_unique<Node>();
  return *place;
}

Value Nest::to_value(Node& node) {
  if (node.kind == Node::Kind::leaf) return std::move(node.leaf);
  if (node.kind == Node::Kind::list) {
    std::vector<Value> elements;
    elements.reserve(node.children.size());
    for (const auto& child : node.children) elements.push_back(child == nullptr ? Value() : to_value(*child));
    return Value::sequence(Kind::list, std::move(elements));
  }
  std::vector<Entry> entries;
  entries.reserve(node.children.size());
  for (std::size_t i = 0; i < node.children.size(); ++i) {
    entries.push_back({Value::string(std::move(node.keys[i])), to_value(*node.children[i])});
  }
  return Value::mapping(Kind::dict, std::move(entries));
}

Value Nest::take() {
  return to_value(root_);
}

}  // namespace torchkeep::dcp
