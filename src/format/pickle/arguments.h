// SPDX-License-Identifier: BSD-3-Clause
// The arguments of a callable on the allow-list, read with checks.
#pragma once

#include <algorithm>
#include <array>
#include <fmt/format.h>
#include <string>
#include <string_view>
#include <vector>

#include "heap.h"

namespace torchkeep::pickle {

/// The arguments of one REDUCE, with checks that name the callee.
class Arguments {
 public:
  Arguments(Heap& heap, Slot callee, Slot args) : heap_(heap), callee_(callee) {
    if (!heap.is(args, ObjectKind::tuple)) fail(fmt::format("called with {}, not a tuple", heap.describe(args)));
    const auto items = heap.items(args);
    if (items.size() > slots_.size()) fail(fmt::format("{} arguments", items.size()));
    std::copy(items.begin(), items.end(), slots_.begin());
    count_ = items.size();
  }

  Slot callee() const noexcept { return callee_; }
  std::size_t count() const noexcept { return count_; }
  Slot operator[](std::size_t i) const noexcept { return slots_[i]; }
  std::span<const Slot> slots() const noexcept { return {slots_.data(), count_}; }
  void expect(std::size_t least, std::size_t most) const {
    if (count() >= least && count() <= most) return;
    fail(fmt::format("{} arguments, expected {}", count(),
                     least == most ? fmt::format("{}", least) : fmt::format("{} to {}", least, most)));
  }
  [[noreturn]] void fail(std::string_view message, Code code = Code::corrupt) const {
    heap_.fail(code, fmt::format("{}: {}", heap_.global(callee_).full_name(), message));
  }
  /// Runs a check whose errors are about this call.
  template <class Check>
  void check(Check run) const {
    try {
      run();
    } catch (const Error& error) {
      fail(error.message(), error.code());
    }
  }
  [[noreturn]] void wrong(std::size_t i, std::string_view expected) const {
    fail(fmt::format("argument {} is {}, expected {}", i + 1, heap_.describe(slots_[i]), expected));
  }

  std::int64_t integer(std::size_t i) const {
    if (slots_[i].tag != Tag::integer) wrong(i, "an int of 64 bits");
    return slots_[i].integer;
  }
  bool boolean(std::size_t i) const {
    if (slots_[i].tag != Tag::boolean) wrong(i, "a bool");
    return slots_[i].integer != 0;
  }
  double real(std::size_t i) const {
    if (slots_[i].tag == Tag::integer) return static_cast<double>(slots_[i].integer);
    if (slots_[i].tag != Tag::real) wrong(i, "a float");
    return slots_[i].real;
  }
  std::string_view text(std::size_t i) const {
    if (slots_[i].tag != Tag::string) wrong(i, "a str");
    return heap_.text(slots_[i]);
  }
  std::vector<std::int64_t> integers(std::size_t i) const {
    if (!heap_.is(slots_[i], ObjectKind::tuple) && !heap_.is(slots_[i], ObjectKind::size)) wrong(i, "a tuple of ints");
    const auto items = heap_.items(slots_[i]);
    if (const std::uint64_t limit = heap_.context().limits.max_dimensions; items.size() > limit) {
      fail(fmt::format("{} dimensions, more than the limit of {} (Limits::max_dimensions)", items.size(), limit),
           Code::refused);
    }
    std::vector<std::int64_t> values;
    values.reserve(items.size());
    for (const Slot item : items) {
      if (item.tag != Tag::integer) wrong(i, "a tuple of ints of 64 bits");
      values.push_back(item.integer);
    }
    return values;
  }
  const LoadedStorage& storage(std::size_t i) const {
    if (slots_[i].tag != Tag::storage) wrong(i, "a storage");
    return heap_.storage(slots_[i]);
  }
  const Tensor& tensor(std::size_t i) const {
    if (!heap_.is(slots_[i], ObjectKind::tensor)) wrong(i, "a tensor");
    return heap_.tensor(heap_.object(slots_[i]));
  }
  DType dtype(std::size_t i) const {
    if (!heap_.is(slots_[i], Role::dtype)) wrong(i, "a dtype");
    return *heap_.global(slots_[i]).dtype;
  }
  /// Backward hooks are never saved: an empty OrderedDict stands in their place.
  void expect_no_hooks(std::size_t i) const {
    const Slot hooks = slots_[i];
    if (hooks.tag == Tag::none) return;
    if (!heap_.is(hooks, ObjectKind::ordered_dict) && !heap_.is(hooks, ObjectKind::dict)) wrong(i, "an OrderedDict");
    if (!heap_.items(hooks).empty()) fail("backward hooks cannot be kept", Code::unsupported);
  }

 private:
  Heap& heap_;
  Slot callee_;
  std::array<Slot, 8> slots_;  // a copy: the heap may move while the arguments are in use
  std::size_t count_ = 0;
};

}  // namespace torchkeep::pickle
