// SPDX-License-Identifier: BSD-3-Clause
// Key hashing and equality, both with an explicit stack: a hostile file may nest a key 100,000 deep.
#include "mapping.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <fmt/format.h>
#include <functional>
#include <utility>
#include <vector>

#include <torchkeep/base/hash.h>

#include "node.h"

namespace torchkeep::detail {
namespace {

constexpr std::size_t kScanLimit = 8;
constexpr std::size_t kMaxKeyParts = 65536;
constexpr std::size_t kMaxCollisions = 4096;  // honest keys have none; a hostile file's would cost quadratic time

// Seeded: no file can choose keys whose hashes share the low bits, which the table uses.
std::uint64_t mix(std::uint64_t hash, std::uint64_t part) noexcept {
  const std::uint64_t seed = hash_seed();
  return fold_multiply(part ^ seed, fold_multiply(hash ^ 0x9e3779b97f4a7c15ull, seed | 1) | 1);
}

std::uint64_t hash_double(double number) noexcept {
  constexpr double kTwo63 = 9223372036854775808.0;
  if (number >= -kTwo63 && number < kTwo63 && std::trunc(number) == number) {
    return mix(1, static_cast<std::uint64_t>(static_cast<std::int64_t>(number)));
  }
  if (std::isfinite(number) && std::trunc(number) == number)
    return hash_text(Integer::from_decimal(fmt::format("{:.0f}", number)).to_twos_complement(), hash_seed());
  return mix(2, std::bit_cast<std::uint64_t>(number));
}

// A text may be a megabyte long and a key of 100,000 dicts.
std::uint64_t hash_bytes(const Value& text) {
  constexpr std::size_t kLong = 256;
  const auto& node = *static_cast<const NodeOf<std::string>*>(NodeAccess::node(text));
  if (node.value.size() < kLong) return hash_text(node.value, hash_seed());
  std::uint64_t hash = node.hash.load(std::memory_order_relaxed);
  if (hash == 0) {
    hash = hash_text(node.value, hash_seed());
    node.hash.store(hash, std::memory_order_relaxed);
  }
  return hash;
}

std::uint64_t hash_integer(const Integer& number) {
  if (const auto small = number.to_int64()) return mix(1, static_cast<std::uint64_t>(*small));
  return hash_text(number.to_twos_complement(), hash_seed());
}

// Hash of a leaf; containers give a hash of their kind only and are descended by the caller.
std::uint64_t hash_part(const Value& key) {
  switch (key.kind()) {
    case Kind::none:
      return mix(3, 0);
    case Kind::boolean:
      return mix(1, key.as_boolean() ? 1 : 0);
    case Kind::integer:
      return hash_integer(key.as_integer());
    case Kind::real:
      return hash_double(key.as_real());
    case Kind::complex: {
      const auto number = key.as_complex();
      return number.imag() == 0 ? hash_double(number.real())
                                : mix(hash_double(number.real()), hash_double(number.imag()));
    }
    case Kind::string:
      return mix(10, hash_bytes(key));
    case Kind::bytes:
      return mix(4, hash_bytes(key));
    case Kind::tuple:
    case Kind::size:
      return mix(5, key.size());
    case Kind::frozenset:
      return mix(6, key.size());
    case Kind::dtype:
      return mix(7, static_cast<std::uint64_t>(key.as_dtype()));
    case Kind::device:
      return mix(8, hash_text(key.as_device().name, hash_seed()));
    case Kind::tensor:
    case Kind::sparse_tensor:
    case Kind::nested_tensor:
    case Kind::opaque:
      return mix(9, std::hash<const void*>{}(key.id()));
    default:
      throw Error(Code::invalid_argument, fmt::format("a {} cannot be the key of a dict", to_string(key.kind())));
  }
}

bool is_number(Kind kind) {
  return kind == Kind::boolean || kind == Kind::integer || kind == Kind::real || kind == Kind::complex;
}

// A number as Python compares it: an exact integer, or a double (with an imaginary part).
struct Number {
  std::optional<Integer> integer;
  std::complex<double> real;
};

Number number_of(const Value& value) {
  if (value.is(Kind::boolean)) return {Integer(value.as_boolean() ? 1 : 0), {}};
  if (value.is(Kind::integer)) return {value.as_integer(), {}};
  const std::complex<double> number = value.is(Kind::real) ? std::complex<double>(value.as_real()) : value.as_complex();
  const bool whole = number.imag() == 0 && std::isfinite(number.real()) && std::trunc(number.real()) == number.real();
  if (whole) return {Integer::from_decimal(fmt::format("{:.0f}", number.real())), {}};
  return {std::nullopt, number};
}

bool numbers_equal(const Value& a, const Value& b) {
  const Number x = number_of(a);
  const Number y = number_of(b);
  return x.integer == y.integer && (x.integer || x.real == y.real);
}

bool is_tuple(Kind kind) {
  return kind == Kind::tuple || kind == Kind::size;
}

bool sets_equal(const Value& a, const Value& b);

// Equality of everything but tuples' elements.
bool parts_equal(const Value& a, const Value& b) {
  if (a.id() == b.id() && a.kind() == b.kind()) return true;
  if (is_number(a.kind()) && is_number(b.kind())) return numbers_equal(a, b);
  if (is_tuple(a.kind()) && is_tuple(b.kind())) return a.size() == b.size();
  if (a.kind() != b.kind()) return false;
  switch (a.kind()) {
    case Kind::none:
      return true;
    case Kind::string:
      return a.as_string() == b.as_string();
    case Kind::bytes:
      return a.as_bytes() == b.as_bytes();
    case Kind::dtype:
      return a.as_dtype() == b.as_dtype();
    case Kind::device:
      return a.as_device() == b.as_device();
    case Kind::frozenset:
      return a == b || sets_equal(a, b);
    default:
      return false;  // tensors and opaque objects are equal to themselves only
  }
}

/// In any order. Containers inside a set are compared in the order they have: a nested key is never compared by
/// recursion.
bool sets_equal(const Value& a, const Value& b) {
  if (a.size() != b.size()) return false;
  const auto sorted = [](const Value& set) {
    std::vector<std::pair<std::uint64_t, Value>> parts;
    for (const Value& element : set.elements()) parts.emplace_back(hash_part(element), element);
    std::stable_sort(parts.begin(), parts.end(), [](const auto& x, const auto& y) { return x.first < y.first; });
    return parts;
  };
  const auto same = [](const auto& x, const auto& y) {
    const bool is_container = is_tuple(x.second.kind()) || x.second.is(Kind::frozenset);
    return x.first == y.first && (is_container ? x.second == y.second : parts_equal(x.second, y.second));
  };
  const auto parts = sorted(a), others = sorted(b);
  return std::equal(parts.begin(), parts.end(), others.begin(), same);
}

}  // namespace

std::uint64_t key_hash(std::string_view text) noexcept {
  return mix(10, hash_text(text, hash_seed()));
}

std::uint64_t key_hash(const Value& key) {
  if (!is_tuple(key.kind()) && !key.is(Kind::frozenset)) return hash_part(key);
  std::vector<Value> pending{key};
  std::uint64_t hash = 0;
  for (std::size_t parts = 0; !pending.empty(); ++parts) {
    if (parts > kMaxKeyParts)
      throw Error(Code::refused, fmt::format("a dict key has more than {} parts", kMaxKeyParts));
    const Value part = std::move(pending.back());
    pending.pop_back();
    hash = mix(hash, hash_part(part));
    if (part.is(Kind::frozenset)) {  // in any order; what stands inside its own containers does not count
      parts += part.size();
      std::uint64_t sum = 0;
      for (const Value& element : part.elements()) sum += hash_part(element);
      hash = mix(hash, sum);
    }
    if (is_tuple(part.kind())) pending.insert(pending.end(), part.elements().begin(), part.elements().end());
  }
  return hash;
}

bool key_equal(const Value& a, const Value& b) {
  if (!is_tuple(a.kind()) || !is_tuple(b.kind())) return parts_equal(a, b);
  std::vector<std::pair<Value, Value>> pending{{a, b}};
  while (!pending.empty()) {
    const auto [x, y] = std::move(pending.back());
    pending.pop_back();
    if (!parts_equal(x, y)) return false;
    if (!is_tuple(x.kind()) || x.id() == y.id()) continue;
    for (std::size_t i = 0; i < x.elements().size(); ++i) pending.emplace_back(x.elements()[i], y.elements()[i]);
  }
  return true;
}

// The entries stay where they are, unless a key is repeated.
Mapping::Mapping(std::vector<Entry> entries) : entries_(std::move(entries)) {
  hashes_.reserve(entries_.size());
  if (entries_.size() > kScanLimit) slots_.assign(std::bit_ceil(entries_.size() * 4), 0);
  for (Entry& entry : entries_) {
    const std::uint64_t hash = key_hash(entry.key);
    const auto position = find_hashed(hash, [&entry](const Value& other) { return key_equal(entry.key, other); });
    if (position) {
      entries_[*position].value = std::move(entry.value);
      continue;
    }
    const std::size_t place = hashes_.size();
    hashes_.push_back(hash);
    if (!slots_.empty()) insert_index(place);
    if (&entry != &entries_[place]) entries_[place] = std::move(entry);
  }
  entries_.erase(entries_.begin() + static_cast<std::ptrdiff_t>(hashes_.size()), entries_.end());
  if (entries_.size() <= kScanLimit) slots_.clear();
}

template <class Same>
std::optional<std::size_t> Mapping::find_hashed(std::uint64_t hash, const Same& same) const {
  if (slots_.empty()) {
    for (std::size_t i = 0; i < hashes_.size(); ++i) {
      if (hashes_[i] == hash && same(entries_[i].key)) return i;
    }
    return std::nullopt;
  }
  const std::size_t mask = slots_.size() - 1;
  std::size_t probes = 0;
  for (std::size_t slot = hash & mask; slots_[slot] != 0; slot = (slot + 1) & mask) {
    const std::size_t i = slots_[slot] - 1;
    if (hashes_[i] == hash && same(entries_[i].key)) return i;
    if (++probes > kMaxCollisions)
      throw Error(Code::refused, fmt::format("more than {} dict keys collide", kMaxCollisions));
  }
  return std::nullopt;
}

std::optional<std::size_t> Mapping::find(const Value& key) const {
  return find_hashed(key_hash(key), [&key](const Value& other) { return key_equal(key, other); });
}

std::optional<std::size_t> Mapping::find(std::string_view key) const {
  return find_hashed(key_hash(key),
                     [key](const Value& other) { return other.is(Kind::string) && other.as_string() == key; });
}

void Mapping::set(const Value& key, Value value) {
  const std::uint64_t hash = key_hash(key);
  const auto position = find_hashed(hash, [&key](const Value& other) { return key_equal(key, other); });
  if (position) {
    entries_[*position].value = std::move(value);
    return;
  }
  entries_.push_back({key, std::move(value)});
  hashes_.push_back(hash);
  if (entries_.size() <= kScanLimit) return;
  if (entries_.size() * 2 > slots_.size())
    rebuild_index();
  else
    insert_index(entries_.size() - 1);
}

bool Mapping::erase(const Value& key) {
  const auto position = find(key);
  if (!position) return false;
  entries_.erase(entries_.begin() + static_cast<std::ptrdiff_t>(*position));
  hashes_.erase(hashes_.begin() + static_cast<std::ptrdiff_t>(*position));
  rebuild_index();
  return true;
}

void Mapping::insert_index(std::size_t position) {
  const std::size_t mask = slots_.size() - 1;
  std::size_t slot = hashes_[position] & mask;
  while (slots_[slot] != 0) slot = (slot + 1) & mask;
  slots_[slot] = static_cast<std::uint32_t>(position + 1);
}

void Mapping::rebuild_index() {
  if (entries_.size() <= kScanLimit) {
    slots_.clear();
    return;
  }
  slots_.assign(std::bit_ceil(entries_.size() * 4), 0);
  for (std::size_t i = 0; i < entries_.size(); ++i) insert_index(i);
}

}  // namespace torchkeep::detail
