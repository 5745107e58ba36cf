// SPDX-License-Identifier: BSD-3-Clause
// The pickle machine: a stack, marks and a memo. It never recurses and never calls anything.
#pragma once

#include <charconv>
#include <fmt/format.h>
#include <optional>
#include <span>
#include <string_view>
#include <type_traits>
#include <unordered_map>
#include <vector>

#include "heap.h"
#include "opcodes.h"
#include "show.h"
#include "text.h"

namespace torchkeep::pickle {

class Machine {
 public:
  Machine(Bytes pickle, const ReadContext& context)
      : size_(pickle.size()), reader_(pickle, context.where, context.base), heap_(pickle, context) {
    memo_.reserve(pickle.size() / 12);
  }

  /// Behind the last instruction that ran.
  std::uint64_t position() const noexcept { return size_ - reader_.remaining(); }

  Value run() {
    return run([](Heap& heap, Slot root) { return to_value(heap, root); });
  }
  /// Gives what `use` makes of the heap and the pickle's object.
  template <class Use>
  std::invoke_result_t<Use, Heap&, Slot> run(Use use) {
    for (;;) {
      heap_.set_position(reader_.position());
      if (reader_.remaining() == 0) fail("the pickle ends without STOP");
      const auto op = static_cast<Op>(reader_.read<std::uint8_t>());
      if (op == Op::stop) return use(heap_, pop());
      step(op);
    }
  }

 private:
  struct Mark {
    std::size_t depth;  // of the stack
    Heap::Level level;
  };

  [[noreturn]] void fail(std::string message, Code code = Code::corrupt) const { heap_.fail(code, std::move(message)); }

  // The stack above the last mark.
  std::size_t depth() const noexcept { return stack_.size() - (marks_.empty() ? 0 : marks_.back().depth); }
  void need(std::size_t count) const {
    if (depth() < count) fail("the stack is empty");
  }
  void push(Slot slot) { stack_.push_back(slot); }
  Slot pop() {
    need(1);
    const Slot slot = stack_.back();
    stack_.pop_back();
    return slot;
  }
  Slot top() const {
    need(1);
    return stack_.back();
  }
  // The slots above the last mark, which is removed; they stay on the stack until drop().
  std::span<const Slot> above_mark() {
    if (marks_.empty()) fail("no mark");
    const std::span<const Slot> slots = std::span<const Slot>(stack_).subspan(marks_.back().depth);
    popped_level_ = marks_.back().level;
    marks_.pop_back();
    return slots;
  }
  void drop(std::size_t count) { stack_.resize(stack_.size() - count); }
  // Replaces the topmost slots with an object that holds them.
  void collect(ObjectKind kind, std::span<const Slot> slots) {
    const Slot object = heap_.make_object(kind, slots);
    drop(slots.size());
    push(object);
  }
  void collect(ObjectKind kind, std::size_t count) {
    need(count);
    collect(kind, std::span<const Slot>(stack_).last(count));
  }

  void mark() { marks_.push_back({stack_.size(), heap_.level()}); }
  void tuple();
  void dup();

  std::string_view line();
  template <class T>
  T number(std::string_view text) const {
    T value{};
    const auto result = std::from_chars(text.data(), text.data() + text.size(), value);
    if (result.ec != std::errc() || result.ptr != text.data() + text.size())
      fail(fmt::format("'{}' is not a number", detail::show(text)));
    return value;
  }

  template <class Length>
  void push_text(Tag tag) {
    const auto length = reader_.read<Length>();
    if (std::is_signed_v<Length> && length < Length{0}) fail("a negative length");
    const std::uint64_t offset = reader_.position();
    const std::string_view text = as_text(reader_.take(static_cast<std::uint64_t>(length)));
    if (tag == Tag::string && !is_utf8(text)) fail("a text that is not UTF-8");
    push(heap_.make_text(tag, offset, text.size()));
  }
  // Python 2's str: text where it is UTF-8, else bytes.
  template <class Length>
  void push_python2_text() {
    push_text<Length>(Tag::bytes);
    if (is_utf8(heap_.text(stack_.back()))) stack_.back().tag = Tag::string;
  }
  void push_decoded(Tag tag, const std::optional<std::string>& text) {
    if (!text) fail("a broken escape in a text");
    push(heap_.make_decoded(tag, *text));
  }
  void push_quoted();
  void push_int_text();
  void push_decimal(std::string_view text);
  template <class Length>
  void push_long() {
    const auto length = reader_.read<Length>();
    if (std::is_signed_v<Length> && length < Length{0}) fail("a negative length");
    push_twos_complement(as_text(reader_.take(static_cast<std::uint64_t>(length))), false);
  }
  void push_twos_complement(std::string_view bytes, bool is_temporary);
  void push_float();

  void put(std::uint64_t index);
  void get(std::uint64_t index);

  void push_global(std::string_view module, std::string_view name);
  void stack_global();

  void added(std::size_t count);
  void append(std::span<const Slot> items);
  void set_items(std::span<const Slot> items);
  void add_items(std::span<const Slot> items);
  Slot below(std::size_t count) const {
    need(count + 1);
    return stack_[stack_.size() - 1 - count];
  }
  std::span<const Slot> topmost(std::size_t count) const {
    need(count);
    return std::span<const Slot>(stack_).last(count);
  }
  void push_dict_above_mark();

  void reduce();
  void new_object(bool has_keywords);
  // INST and OBJ of protocols 0 and 1: an instance of an old-style class.
  void old_instance(Slot type, std::span<const Slot> arguments, std::size_t taken);
  void inst();
  void obj();
  void build();
  // PERSID's text: a number where that can be one, as PyTorch reads it.
  Slot text_id(std::string_view text);
  void persistent_id(Slot id);
  Slot storage(std::span<const Slot> fields);
  void set_view(LoadedStorage& loaded, Slot view, std::int64_t numel);
  Slot numbered(std::int64_t number);
  // Errors of the caller's functions are about the instruction now running.
  template <class F>
  auto at_this_place(F f) const {
    try {
      return f();
    } catch (const Error& error) {
      throw error.at(heap_.where());
    }
  }

  void step(Op op);

  std::size_t size_;
  ByteReader reader_;
  Heap heap_;
  LargeVector<Slot> stack_;
  std::vector<Mark> marks_;
  Heap::Level popped_level_;  // at the MARK that was removed last
  Slot last_tuple_;           // made by TUPLE
  Heap::Level before_tuple_;  // at its MARK
  LargeVector<Slot> memo_;
  std::uint64_t memo_count_ = 0;                     // MEMOIZE takes the next number
  std::unordered_map<std::int64_t, Slot> numbered_;  // of persistent ids that are numbers
};

}  // namespace torchkeep::pickle
