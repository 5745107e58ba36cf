// SPDX-License-Identifier: BSD-3-Clause
// Equality in bits, with an explicit stack; every pair of nodes is compared once.
#include <bit>
#include <cstring>
#include <unordered_set>

#include "node.h"
#include "pairing.h"

namespace torchkeep {

using detail::Mapping;
using detail::Node;
using detail::NodeAccess;
using detail::Pairing;

namespace {

constexpr std::uint64_t kBlock = std::uint64_t{1} << 20;

bool same_bytes(const Storage& a, const Storage& b) {
  if (a.nbytes() != b.nbytes() || a.location() != b.location()) return false;
  if (a.data() != nullptr && b.data() != nullptr) return std::memcmp(a.data(), b.data(), a.nbytes()) == 0;
  std::string block_a(static_cast<std::size_t>(std::min(a.nbytes(), kBlock)), '\0');
  std::string block_b(block_a.size(), '\0');
  for (std::uint64_t at = 0; at < a.nbytes(); at += kBlock) {
    const std::size_t count = static_cast<std::size_t>(std::min(kBlock, a.nbytes() - at));
    a.read(at, std::as_writable_bytes(std::span(block_a.data(), count)));
    b.read(at, std::as_writable_bytes(std::span(block_b.data(), count)));
    if (std::memcmp(block_a.data(), block_b.data(), count) != 0) return false;
  }
  return true;
}

class Comparison {
 public:
  bool run(const Value& a, const Value& b) {
    push(a, b);
    while (!pending_.empty()) {
      const auto [x, y] = pending_.back();
      pending_.pop_back();
      if (!compare(*x, *y)) return false;
    }
    return true;
  }

 private:
  void push(const Value& a, const Value& b) { pending_.emplace_back(&a, &b); }

  bool compare(const Value& a, const Value& b) {
    const Node* x = NodeAccess::node(a);
    const Node* y = NodeAccess::node(b);
    if (x == nullptr || y == nullptr) return x == y;
    if (x->kind != y->kind || x->content != y->content) return false;
    if (x->kind == Kind::back_reference)
      return labels_.meet(x->label(), y->label()) != Pairing<std::uint64_t>::Met::apart;
    if ((x->label() != 0) != (y->label() != 0)) return false;
    if (x->label() != 0 && labels_.meet(x->label(), y->label()) == Pairing<std::uint64_t>::Met::apart) return false;
    if (x->kind >= Kind::list && x->kind != Kind::dtype && x->kind != Kind::device) {
      if (x->kind == Kind::tuple || x->kind == Kind::size || x->kind == Kind::frozenset) {
        // Whether two equal immutable objects are one object does not matter; visiting them once does.
        if (!visited_.insert({x, y}).second) return true;
      } else {
        const auto met = nodes_.meet(x, y);
        if (met != Pairing<const Node*>::Met::never) return met == Pairing<const Node*>::Met::together;
      }
    }
    push(x->attributes(), y->attributes());
    return compare_content(*x, *y);
  }

  bool compare_content(const Node& x, const Node& y) {
    return x.visit(
        [this, &y](const auto& content) { return same(content, *y.get<std::decay_t<decltype(content)>>()); });
  }

  bool same(std::monostate, std::monostate) { return true; }
  bool same(double a, double b) { return std::bit_cast<std::uint64_t>(a) == std::bit_cast<std::uint64_t>(b); }
  bool same(std::complex<double> a, std::complex<double> b) {
    return same(a.real(), b.real()) && same(a.imag(), b.imag());
  }
  bool same(bool a, bool b) { return a == b; }
  bool same(const Integer& a, const Integer& b) { return a == b; }
  bool same(const std::string& a, const std::string& b) { return a == b; }
  bool same(DType a, DType b) { return a == b; }
  bool same(const Device& a, const Device& b) { return a == b; }

  bool same(const std::vector<Value>& a, const std::vector<Value>& b) {
    if (a.size() != b.size()) return false;
    for (std::size_t i = a.size(); i-- > 0;) push(a[i], b[i]);
    return true;
  }

  bool same(std::span<const Entry> a, std::span<const Entry> b) {
    if (a.size() != b.size()) return false;
    for (std::size_t i = a.size(); i-- > 0;) {
      push(a[i].value, b[i].value);
      push(a[i].key, b[i].key);
    }
    return true;
  }

  bool same(const Mapping& a, const Mapping& b) { return same(a.entries(), b.entries()); }

  bool same(const Tensor& a, const Tensor& b) {
    if (a.dtype != b.dtype || a.sizes != b.sizes || a.strides != b.strides || a.storage_offset != b.storage_offset)
      return false;
    if (a.requires_grad != b.requires_grad || a.is_parameter != b.is_parameter) return false;
    if (a.is_conj != b.is_conj || a.is_neg != b.is_neg || !same_place(a.shard.get(), b.shard.get())) return false;
    return same_storage(*a.storage, *b.storage) && same_quantizer(a.quantizer.get(), b.quantizer.get());
  }

  static bool same_place(const Shard* a, const Shard* b) { return a == nullptr || b == nullptr ? a == b : *a == *b; }

  bool same_storage(const Storage& a, const Storage& b) {
    const auto met = storages_.meet(a.identity(), b.identity());
    if (met != Pairing<const void*>::Met::never) return met == Pairing<const void*>::Met::together;
    return same_bytes(a, b);
  }

  bool same_quantizer(const Quantizer* a, const Quantizer* b) {
    if (a == nullptr || b == nullptr) return a == b;
    if (a->scheme != b->scheme || !same(a->scale, b->scale) || a->zero_point != b->zero_point || a->axis != b->axis)
      return false;
    return same_optional(a->scales.get(), b->scales.get()) && same_optional(a->zero_points.get(), b->zero_points.get());
  }

  bool same_optional(const Tensor* a, const Tensor* b) { return a == nullptr || b == nullptr ? a == b : same(*a, *b); }

  bool same(const SparseTensor& a, const SparseTensor& b) {
    push(a.indices, b.indices);
    push(a.plain, b.plain);
    push(a.values, b.values);
    return a.layout == b.layout && a.sizes == b.sizes && a.is_coalesced == b.is_coalesced;
  }

  bool same(const NestedTensor& a, const NestedTensor& b) {
    push(a.buffer, b.buffer);
    push(a.sizes, b.sizes);
    push(a.strides, b.strides);
    push(a.offsets, b.offsets);
    return true;
  }

  bool same(const Opaque& a, const Opaque& b) {
    if (a.module != b.module || a.name != b.name || a.form != b.form) return false;
    push(a.args, b.args);
    push(a.kwargs, b.kwargs);
    push(a.state, b.state);
    return same(a.list_items, b.list_items) &&
           same(std::span<const Entry>(a.dict_items), std::span<const Entry>(b.dict_items));
  }

  struct PairHash {
    std::size_t operator()(const std::pair<const Node*, const Node*>& pair) const noexcept {
      return std::hash<const void*>{}(pair.first) * 31 + std::hash<const void*>{}(pair.second);
    }
  };

  std::vector<std::pair<const Value*, const Value*>> pending_;
  std::unordered_set<std::pair<const Node*, const Node*>, PairHash> visited_;
  Pairing<const Node*> nodes_;
  Pairing<const void*> storages_;
  Pairing<std::uint64_t> labels_;
};

}  // namespace

bool Value::operator==(const Value& other) const {
  // One handle to one tree is equal to itself; the bytes need not be read.
  return id() == other.id() || Comparison().run(*this, other);
}

}  // namespace torchkeep
