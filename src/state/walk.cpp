// SPDX-License-Identifier: BSD-3-Clause
// Walks with an explicit stack of places; shared containers are remembered, others cannot be met twice.
#include <algorithm>
#include <array>
#include <charconv>
#include <deque>
#include <fmt/format.h>
#include <set>
#include <span>
#include <unordered_set>
#include <utility>

#include <torchkeep/state/walk.h>

#include "node.h"

namespace torchkeep {

using detail::Node;
using detail::NodeAccess;

namespace {

constexpr std::array<std::string_view, 3> kSparse = {"indices", "plain", "values"};
constexpr std::array<std::string_view, 4> kNested = {"buffer", "sizes", "strides", "offsets"};
constexpr std::array<std::string_view, 3> kOpaque = {"args", "kwargs", "state"};

// A path of more steps than this is shown by its end only: a chain of n containers must not cost n * n characters.
constexpr std::size_t kMaxShownDepth = 1000;
constexpr std::size_t kShownEnd = 32;
constexpr std::size_t kMaxShownStep = 1000;  // bytes
constexpr std::size_t kMaxShownPath = 4096;
constexpr std::size_t kWhole = std::string_view::npos;

std::size_t content_size(const Value& value) noexcept {
  switch (value.kind()) {
    case Kind::list:
    case Kind::tuple:
    case Kind::size:
    case Kind::set:
    case Kind::frozenset:
      return value.elements().size();
    case Kind::dict:
    case Kind::ordered_dict:
    case Kind::counter:
      return value.items().size();
    case Kind::sparse_tensor:
      return kSparse.size();
    case Kind::nested_tensor:
      return kNested.size();
    case Kind::opaque:
      return kOpaque.size() + value.as_opaque().list_items.size() + value.as_opaque().dict_items.size();
    default:
      return 0;
  }
}

const Value& attributes_of(const Value& value) noexcept {
  return NodeAccess::node(value)->attributes();
}

bool has_attributes(const Value& value) noexcept {
  return NodeAccess::node(value) != nullptr && !attributes_of(value).is_none();
}

const Value& opaque_part(const Opaque& object, std::size_t i) noexcept {
  if (i < kOpaque.size()) return i == 0 ? object.args : i == 1 ? object.kwargs : object.state;
  i -= kOpaque.size();
  if (i < object.list_items.size()) return object.list_items[i];
  return object.dict_items[i - object.list_items.size()].value;
}

Step opaque_step(const Opaque& object, std::size_t i) {
  if (i < kOpaque.size()) return {Step::Kind::field, {}, 0, kOpaque[i]};
  i -= kOpaque.size();
  if (i < object.list_items.size()) return {Step::Kind::index, {}, i, {}};
  return {Step::Kind::key, object.dict_items[i - object.list_items.size()].key, 0, {}};
}

// Whether more than one handle leads to the node, so that a walk may meet it again.
bool is_shared(const Value& value) noexcept {
  return NodeAccess::use_count(value) > 1;
}

struct Frame {
  Frame(const Value& value, Place place) : parts(value), place(std::move(place)) {}
  Parts parts;
  Place place;
  std::size_t next = 0;
};

}  // namespace

std::string Step::text() const {
  if (kind == Kind::field) return std::string(field);
  if (kind == Kind::index) return fmt::format("{}", index);
  if (key.is(torchkeep::Kind::string)) return key.as_string();
  if (key.is(torchkeep::Kind::integer)) return key.as_integer().to_decimal();
  if (key.is(torchkeep::Kind::opaque) && !key.as_opaque().module.empty())
    return fmt::format("<{}.{}>", key.as_opaque().module, key.as_opaque().name);
  return fmt::format("<{}>", to_string(key.kind()));
}

std::vector<const Step*> Place::steps() const {
  std::vector<const Step*> steps(depth > kMaxShownDepth ? kShownEnd : depth);
  const Place* place = this;
  for (auto at = steps.rbegin(); at != steps.rend(); ++at, place = place->parent) *at = &place->step;
  return steps;
}

namespace {

void append_text(std::string& out, std::string_view text, std::size_t most) {
  if (text.size() <= most) {
    out += text;
    return;
  }
  std::size_t end = most;
  while (end > 0 && (static_cast<unsigned char>(text[end]) & 0xc0) == 0x80) --end;  // no half of a letter of UTF-8
  out.append(text.substr(0, end)).append("...");
}

void append_text(std::string& out, const Step& step, std::size_t most) {
  if (step.kind == Step::Kind::key && step.key.is(Kind::string))
    append_text(out, step.key.as_string(), most);  // nearly all of them: no copy in between
  else
    append_text(out, step.text(), most);
}

std::size_t size_of(const Step& step) {
  const bool is_text = step.kind == Step::Kind::key && step.key.is(Kind::string);
  return std::min(is_text ? step.key.size() : step.text().size(), kMaxShownStep);
}

// The first of the steps for which, with all behind it, there is room.
std::size_t first_shown(const std::vector<const Step*>& steps) {
  std::size_t first = steps.size();
  for (std::size_t taken = 0; first > 0; --first) {
    taken += 1 + size_of(*steps[first - 1]);
    if (taken > kMaxShownPath && first < steps.size()) break;
  }
  return first;
}

std::string joined(const Place& place, std::size_t most) {
  std::string text;
  if (place.depth == 1) {
    append_text(text, place.step, most);
    return text;
  }
  const std::vector<const Step*> steps = place.steps();
  const std::size_t first = most == kWhole ? 0 : first_shown(steps);
  bool separate = first > 0 || place.depth > kMaxShownDepth;
  if (separate) text = "...";
  for (const Step* step : std::span(steps).subspan(first)) {
    if (std::exchange(separate, true)) text += '.';
    append_text(text, *step, most);
  }
  return text;
}

}  // namespace

std::string Step::shown() const {
  std::string shown;
  append_text(shown, *this, kMaxShownStep);
  return shown;
}

std::string Place::text() const {
  return joined(*this, kMaxShownStep);
}

std::string Place::name() const {
  return joined(*this, kWhole);
}

Parts::Parts(const Value& value) noexcept
    : value_(&value), content_(content_size(value)), size_(content_ + (has_attributes(value) ? 1 : 0)) {}

const Value& Parts::value(std::size_t i) const noexcept {
  if (i >= content_) return attributes_of(*value_);
  switch (value_->kind()) {
    case Kind::dict:
    case Kind::ordered_dict:
    case Kind::counter:
      return value_->items()[i].value;
    case Kind::sparse_tensor: {
      const SparseTensor& tensor = value_->as_sparse_tensor();
      return i == 0 ? tensor.indices : i == 1 ? tensor.plain : tensor.values;
    }
    case Kind::nested_tensor: {
      const NestedTensor& tensor = value_->as_nested_tensor();
      return i == 0 ? tensor.buffer : i == 1 ? tensor.sizes : i == 2 ? tensor.strides : tensor.offsets;
    }
    case Kind::opaque:
      return opaque_part(value_->as_opaque(), i);
    default:
      return value_->elements()[i];
  }
}

Step Parts::step(std::size_t i) const {
  if (i >= content_) return {Step::Kind::field, {}, 0, "attributes"};
  switch (value_->kind()) {
    case Kind::dict:
    case Kind::ordered_dict:
    case Kind::counter:
      return {Step::Kind::key, value_->items()[i].key, 0, {}};
    case Kind::sparse_tensor:
      return {Step::Kind::field, {}, 0, kSparse[i]};
    case Kind::nested_tensor:
      return {Step::Kind::field, {}, 0, kNested[i]};
    case Kind::opaque:
      return opaque_step(value_->as_opaque(), i);
    default:
      return {Step::Kind::index, {}, i, {}};
  }
}

void walk(const Value& root, const std::function<Next(const Visit&)>& visit) {
  std::unordered_set<const void*> met;
  std::deque<Frame> stack;  // a deque: places must not move while those below point to them
  // Visits one value; true to go on. A container that is to be entered is pushed.
  const auto enter = [&](const Value& value, Place place) {
    const bool is_container = Parts(value).size() > 0;
    const bool repeated = is_container && is_shared(value) && !met.insert(value.id()).second;
    const Next next = visit({value, place, repeated});
    if (next == Next::inside && is_container && !repeated) stack.emplace_back(value, std::move(place));
    return next != Next::stop;
  };
  if (!enter(root, {})) return;
  while (!stack.empty()) {
    Frame& top = stack.back();
    if (top.next == top.parts.size()) {
      stack.pop_back();
      continue;
    }
    const std::size_t i = top.next++;
    if (!enter(top.parts.value(i), {&top.place, top.parts.step(i), top.place.depth + 1})) return;
  }
}

namespace {

// A part that was reached, by which step from which other one, and where its name in the path's text ends (npos: at the
// end of the text).
struct Reached {
  Value value;
  Step step;
  std::size_t from;
  std::size_t rest;
};

std::optional<std::int64_t> parse_index(std::string_view text) {
  std::int64_t number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return number;
}

struct Found {
  Value value;
  Step step;
};

// The part of `value` that exactly `text` names.
std::optional<Found> find_step(const Value& value, std::string_view text) {
  const auto index = parse_index(text);
  if (value.is_mapping()) {
    const Value key = Value::string(std::string(text));
    if (auto found = value.find(key)) return Found{*found, {Step::Kind::key, key, 0, {}}};
    if (index && fmt::format("{}", *index) == text) {
      if (auto found = value.find(Value(*index))) return Found{*found, {Step::Kind::key, Value(*index), 0, {}}};
    }
  } else if (value.is_sequence()) {
    const auto count = static_cast<std::int64_t>(value.size());
    if (index && *index >= -count && *index < count) {
      const auto position = static_cast<std::uint64_t>(*index < 0 ? *index + count : *index);
      return Found{value[*index], {Step::Kind::index, {}, position, {}}};
    }
  } else {
    const Parts parts(value);
    for (std::size_t i = 0; i < parts.size(); ++i) {
      Step step = parts.step(i);
      if (step.text() == text) return Found{NodeAccess::child(value, parts.value(i), text), std::move(step)};
    }
  }
  if (text == "attributes" && has_attributes(value)) {
    return Found{value.attributes(), {Step::Kind::field, {}, 0, "attributes"}};
  }
  return std::nullopt;
}

// Which of the parts `reached` on the way is the one that the path names. The first is the root.
std::optional<std::size_t> search(const Value& root, std::string_view path, std::vector<Reached>& reached) {
  std::set<std::pair<const void*, std::size_t>> tried;  // the way to a part does not matter for what lies below it
  reached = {{root, {}, 0, path.empty() ? std::string_view::npos : 0}};
  std::vector<std::size_t> pending = {0};
  while (!pending.empty()) {
    const std::size_t at = pending.back();
    pending.pop_back();
    const Value value = reached[at].value;
    const std::size_t begin = reached[at].rest;
    if (begin == std::string_view::npos) return at;
    if (!tried.insert({value.id(), begin}).second) continue;
    const std::string_view rest = path.substr(begin);
    // Shorter steps are pushed first, so the longest that exists is tried first.
    for (std::size_t dot = rest.find('.');; dot = rest.find('.', dot + 1)) {
      if (auto found = find_step(value, rest.substr(0, dot))) {
        pending.push_back(reached.size());
        reached.push_back({std::move(found->value), std::move(found->step), at,
                           dot == std::string_view::npos ? dot : begin + dot + 1});
      }
      if (dot == std::string_view::npos) break;
    }
  }
  return std::nullopt;
}

}  // namespace

std::optional<Value> find_path(const Value& root, std::string_view path) {
  std::vector<Reached> reached;
  const auto found = search(root, path, reached);
  return found ? std::optional(reached[*found].value) : std::nullopt;
}

std::optional<std::vector<Step>> find_steps(const Value& root, std::string_view path) {
  std::vector<Reached> reached;
  const auto found = search(root, path, reached);
  if (!found) return std::nullopt;
  std::vector<Step> steps;
  for (std::size_t at = *found; at != 0; at = reached[at].from) steps.push_back(reached[at].step);
  std::reverse(steps.begin(), steps.end());
  return steps;
}

}  // namespace torchkeep
