// SPDX-License-Identifier: BSD-3-Clause
// Two trees are walked side by side with an explicit stack; the tensors met are compared afterwards, on all threads.
#include <algorithm>
#include <array>
#include <bit>
#include <deque>
#include <set>

#include <torchkeep/state/diff.h>

#include "findings.h"
#include "node.h"
#include "pairing.h"

namespace torchkeep {

using detail::NodeAccess;
using detail::Pairing;

namespace {

constexpr std::size_t kMaxPairs = std::size_t{1} << 24;  // of shared containers; honest files have a handful

// A part of the first, of the second, or of both.
struct PartPair {
  const Value* a = nullptr;
  const Value* b = nullptr;
  Step step;
};

bool same_bits(double a, double b) {
  return std::bit_cast<std::uint64_t>(a) == std::bit_cast<std::uint64_t>(b);
}

bool is_set(const Value& value) {
  return value.is(Kind::set) || value.is(Kind::frozenset);
}

bool same_optional(const std::shared_ptr<const Tensor>& a, const std::shared_ptr<const Tensor>& b) {
  if (!a || !b) return a == b;
  return a->dtype == b->dtype && a->sizes == b->sizes && equal_elements(*a, *b, {.threads = 1});
}

bool same_quantizer(const Quantizer* a, const Quantizer* b) {
  if (a == nullptr || b == nullptr) return a == b;
  return a->scheme == b->scheme && same_bits(a->scale, b->scale) && a->zero_point == b->zero_point &&
         a->axis == b->axis && same_optional(a->scales, b->scales) && same_optional(a->zero_points, b->zero_points);
}

// Whether two values of one kind are equal in what lies in the node itself, not in its parts.
bool same_leaf(const Value& a, const Value& b) {
  switch (a.kind()) {
    case Kind::boolean:
      return a.as_boolean() == b.as_boolean();
    case Kind::integer:
      return a.as_integer() == b.as_integer();
    case Kind::real:
      return same_bits(a.as_real(), b.as_real());
    case Kind::complex:
      return same_bits(a.as_complex().real(), b.as_complex().real()) &&
             same_bits(a.as_complex().imag(), b.as_complex().imag());
    case Kind::string:
      return a.as_string() == b.as_string();
    case Kind::bytes:
    case Kind::bytearray:
      return a.as_bytes() == b.as_bytes();
    case Kind::dtype:
      return a.as_dtype() == b.as_dtype();
    case Kind::device:
      return a.as_device() == b.as_device();
    case Kind::opaque: {
      const Opaque &x = a.as_opaque(), &y = b.as_opaque();
      return x.module == y.module && x.name == y.name && x.form == y.form;
    }
    case Kind::sparse_tensor: {
      const SparseTensor &x = a.as_sparse_tensor(), &y = b.as_sparse_tensor();
      return x.layout == y.layout && x.sizes == y.sizes && x.is_coalesced == y.is_coalesced;
    }
    default:
      return true;
  }
}

// Pairs the entries of two mappings by key: those of the first in its order, then the added ones.
std::vector<PartPair> pair_entries(std::span<const Entry> a, std::span<const Entry> b, bool& reordered) {
  const detail::Mapping index(std::vector<Entry>(b.begin(), b.end()));  // key -> entry of b
  std::vector<PartPair> pairs;
  std::vector<bool> used(b.size(), false);
  std::size_t last = 0;
  for (const Entry& entry : a) {
    PartPair pair{&entry.value, nullptr, {Step::Kind::key, entry.key, 0, {}}};
    if (const auto found = index.find(entry.key)) {
      pair.b = &b[*found].value;
      used[*found] = true;
      reordered = reordered || *found < last;
      last = *found;
    }
    pairs.push_back(std::move(pair));
  }
  for (std::size_t i = 0; i < b.size(); ++i) {
    if (!used[i]) pairs.push_back({nullptr, &b[i].value, {Step::Kind::key, b[i].key, 0, {}}});
  }
  return pairs;
}

void pair_elements(std::span<const Value> a, std::span<const Value> b, std::vector<PartPair>& pairs) {
  for (std::size_t i = 0; i < std::max(a.size(), b.size()); ++i) {
    pairs.push_back({i < a.size() ? &a[i] : nullptr, i < b.size() ? &b[i] : nullptr, {Step::Kind::index, {}, i, {}}});
  }
}

// Elements that are in one set only; those in both are equal by Python's rules.
void pair_sets(std::span<const Value> a, std::span<const Value> b, std::vector<PartPair>& pairs) {
  const auto without = [](std::span<const Value> from, std::span<const Value> others, auto&& found) {
    detail::Mapping index;
    for (const Value& value : others) index.set(value, none);
    for (std::size_t i = 0; i < from.size(); ++i) {
      if (!index.find(from[i])) found(&from[i], Step{Step::Kind::index, {}, i, {}});
    }
  };
  without(a, b, [&](const Value* value, Step step) { pairs.push_back({value, nullptr, std::move(step)}); });
  without(b, a, [&](const Value* value, Step step) { pairs.push_back({nullptr, value, std::move(step)}); });
}

bool is_leaf(const Value& value) {
  return value.kind() < Kind::list || value.is(Kind::dtype) || value.is(Kind::device) || value.is(Kind::back_reference);
}

const Value& attributes_of(const Value& value) {
  return NodeAccess::node(value)->attributes();
}

class Walk {
 public:
  explicit Walk(const DiffOptions& options) : options_(options), found_(options) {}

  Diff run(const Value& a, const Value& b) {
    pair({&a, &b, {}}, nullptr);
    while (!stack_.empty()) {
      Frame& top = stack_.back();
      if (top.next == top.pairs.size()) {
        stack_.pop_back();
        continue;
      }
      PartPair next = std::move(top.pairs[top.next++]);
      pair(std::move(next), &top.place);
    }
    found_.finish(diff_);
    return std::move(diff_);
  }

 private:
  struct Frame {
    Place place;
    std::vector<PartPair> pairs;
    std::size_t next = 0;
  };

  void pair(PartPair parts, const Place* parent) {
    const Place place{parent, std::move(parts.step), parent == nullptr ? 0 : parent->depth + 1};
    if (options_.skip && parent != nullptr && options_.skip(place)) return;
    if (place.depth == 1) diff_.parts.push_back({place.step.text()});
    if (place.depth == 0) diff_.parts.push_back({});
    if (parts.a == nullptr || parts.b == nullptr) {
      return note(place, parts.a == nullptr ? Change::added : Change::removed, parts.a == nullptr ? none : *parts.a,
                  parts.b == nullptr ? none : *parts.b);
    }
    compare(place, *parts.a, *parts.b);
  }

  void compare(const Place& place, const Value& a, const Value& b) {
    if (!same_kind(a, b)) return note(place, Change::kind, a, b);
    if (is_leaf(a)) return compare_leaves(place, a, b);
    if (seen(place, a, b)) return;
    if (a.is(Kind::tensor)) compare_tensors(place, a, b);
    if (!same_leaf(a, b)) return note(place, Change::value, a, b);  // the parts of two classes are not alike
    stack_.push_back({place, pair_parts(place, a, b)});
  }

  void compare_leaves(const Place& place, const Value& a, const Value& b) {
    ++diff_.parts.back().leaves;
    if (a.is(Kind::back_reference) && labels_.meet(a.label(), b.label()) == Labels::Met::apart) {
      note(place, Change::sharing, a, b);
    } else if (!same_leaf(a, b)) {
      note(place, Change::value, a, b);
    }
  }

  bool same_kind(const Value& a, const Value& b) const {
    if (a.kind() == b.kind()) return true;
    if (!options_.content_only) return false;
    return (a.is_mapping() && b.is_mapping()) || (a.is_sequence() && b.is_sequence()) || (is_set(a) && is_set(b));
  }

  // Whether this pair needs no look inside: it was compared before, or it is shared in different ways.
  bool seen(const Place& place, const Value& a, const Value& b) {
    const bool shared = NodeAccess::use_count(a) > 1 || NodeAccess::use_count(b) > 1;
    const bool is_mutable = !(a.is(Kind::tuple) || a.is(Kind::size) || a.is(Kind::frozenset));
    if (a.label() != 0 && b.label() != 0) labels_.meet(a.label(), b.label());
    if (!shared) return false;
    if (options_.content_only || !is_mutable) {
      if (pairs_.size() >= kMaxPairs) {
        throw Error(Code::refused,
                    "more than 16,777,216 pairs of shared objects; the files are not honest checkpoints");
      }
      return !pairs_.insert({a.id(), b.id()}).second;
    }
    const auto met = nodes_.meet(a.id(), b.id());
    if (met == Nodes::Met::apart) note(place, Change::sharing, a, b);
    return met != Nodes::Met::never;
  }

  void compare_tensors(const Place& place, const Value& a, const Value& b) {
    const Tensor &x = a.as_tensor(), &y = b.as_tensor();
    std::vector<Change> changes;
    ++diff_.parts.back().tensors;
    if (x.dtype != y.dtype) changes.push_back(Change::dtype);
    if (x.sizes != y.sizes) changes.push_back(Change::shape);
    if (!same_quantizer(x.quantizer.get(), y.quantizer.get())) changes.push_back(Change::quantizer);
    if (!options_.content_only) add_layout_changes(x, y, changes);
    found_.add({place.text(), diff_.parts.back().key, std::move(changes), a, b, std::nullopt}, part());
  }

  void add_layout_changes(const Tensor& x, const Tensor& y, std::vector<Change>& changes) {
    if (x.requires_grad != y.requires_grad || x.is_parameter != y.is_parameter || x.is_conj != y.is_conj ||
        x.is_neg != y.is_neg) {
      changes.push_back(Change::flags);
    }
    if (x.sizes == y.sizes && (x.strides != y.strides || x.storage_offset != y.storage_offset)) {
      changes.push_back(Change::strides);
    }
    if (x.storage->location() != y.storage->location()) changes.push_back(Change::location);
    if (storages_.meet(x.storage->identity(), y.storage->identity()) == Nodes::Met::apart) {
      changes.push_back(Change::sharing);
    }
  }

  std::vector<PartPair> pair_parts(const Place& place, const Value& a, const Value& b) {
    std::vector<PartPair> pairs;
    bool reordered = false;
    if (a.is_mapping()) {
      pairs = pair_entries(a.items(), b.items(), reordered);
    } else if (a.is_sequence()) {
      pair_elements(a.elements(), b.elements(), pairs);
    } else if (is_set(a)) {
      pair_sets(a.elements(), b.elements(), pairs);
    } else if (a.is(Kind::opaque)) {
      const Opaque &x = a.as_opaque(), &y = b.as_opaque();
      pairs = pair_entries(x.dict_items, y.dict_items, reordered);
      pair_elements(x.list_items, y.list_items, pairs);
      for (std::size_t i = 0; i < 3; ++i) pairs.push_back(field(a, b, i));
    } else if (a.is(Kind::sparse_tensor) || a.is(Kind::nested_tensor)) {
      for (std::size_t i = 0; i < (a.is(Kind::sparse_tensor) ? 3u : 4u); ++i) pairs.push_back(field(a, b, i));
    }
    if (reordered && !options_.content_only) note(place, Change::order, a, b);
    if (!options_.content_only) pair_attributes(attributes_of(a), attributes_of(b), pairs);
    return pairs;
  }

  static PartPair field(const Value& a, const Value& b, std::size_t i) {
    return {&Parts(a).value(i), &Parts(b).value(i), Parts(a).step(i)};
  }

  static void pair_attributes(const Value& a, const Value& b, std::vector<PartPair>& pairs) {
    if (a.is_none() && b.is_none()) return;
    pairs.push_back({a.is_none() ? nullptr : &a, b.is_none() ? nullptr : &b, {Step::Kind::field, {}, 0, "attributes"}});
  }

  void note(const Place& place, Change change, const Value& a, const Value& b) {
    found_.note({place.text(), diff_.parts.back().key, {change}, a, b, std::nullopt}, part());
  }

  std::size_t part() const noexcept { return diff_.parts.size() - 1; }

  using Nodes = Pairing<const void*>;
  using Labels = Pairing<std::uint64_t>;
  const DiffOptions& options_;
  Diff diff_;
  Findings found_;
  std::deque<Frame> stack_;
  std::set<std::pair<const void*, const void*>> pairs_;
  Nodes nodes_;
  Nodes storages_;
  Labels labels_;
};

}  // namespace

std::string_view to_string(Change change) noexcept {
  constexpr std::array<std::string_view, 13> kNames = {"added",    "removed",  "kind",      "value", "dtype",
                                                       "shape",    "elements", "quantizer", "flags", "strides",
                                                       "location", "sharing",  "order"};
  return kNames[static_cast<std::size_t>(change)];
}

bool Difference::has(Change change) const noexcept {
  return std::find(changes.begin(), changes.end(), change) != changes.end();
}

Diff diff(const Value& a, const Value& b, const DiffOptions& options) {
  return Walk(options).run(a, b);
}

}  // namespace torchkeep
