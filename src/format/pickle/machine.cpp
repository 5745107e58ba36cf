// SPDX-License-Identifier: BSD-3-Clause
// What the instructions of a pickle do to the stack, the memo and the objects.
#include "machine.h"

#include <bit>
#include <variant>

namespace torchkeep::pickle {
namespace {

// Reading decimal digits takes quadratic time; Python's own limit.
constexpr std::size_t kMaxDecimalDigits = 4300;
// Of module and class together; each object of the class repeats them.
constexpr std::size_t kMaxNameBytes = 1024;

}  // namespace

std::string_view Machine::line() {
  const std::size_t begin = reader_.position();
  const std::string_view rest = as_text(reader_.take(reader_.remaining()));
  const std::size_t end = rest.find('\n');
  if (end == std::string_view::npos) fail("a line without an end");
  reader_.seek(begin + end + 1);
  return rest.substr(0, end);
}

void Machine::push_quoted() {
  const auto text = decode_quoted(line());
  push_decoded(text && is_utf8(*text) ? Tag::string : Tag::bytes, text);
}

void Machine::push_int_text() {
  const std::string_view text = line();
  if (text == "00" || text == "01") return push(Heap::make_boolean(text == "01"));
  push_decimal(text);
}

void Machine::push_decimal(std::string_view text) {
  if (text.ends_with('L')) text.remove_suffix(1);
  if (text.size() > kMaxDecimalDigits) {
    fail(fmt::format("a decimal int of {} digits; the limit is {}", text.size(), kMaxDecimalDigits), Code::refused);
  }
  try {
    push_twos_complement(Integer::from_decimal(text).to_twos_complement(), true);
  } catch (const Error&) {
    fail(fmt::format("'{}' is not an int", detail::show(text)));
  }
}

void Machine::push_twos_complement(std::string_view bytes, bool is_temporary) {
  if (const auto small = Integer::from_twos_complement(bytes).to_int64()) return push(Heap::make_integer(*small));
  if (is_temporary) return push(heap_.make_decoded(Tag::big_integer, bytes));
  push(heap_.make_text(Tag::big_integer, reader_.position() - bytes.size(), bytes.size()));
}

void Machine::push_float() {
  const auto bits = reader_.read<std::uint64_t>();
  push(Heap::make_real(std::bit_cast<double>(__builtin_bswap64(bits))));
}

void Machine::tuple() {
  const auto slots = above_mark();
  before_tuple_ = popped_level_;
  collect(ObjectKind::tuple, slots);
  last_tuple_ = stack_.back();
}

void Machine::dup() {
  push(top());
  stack_.back().is_repeated = true;
  heap_.pin();
}

void Machine::put(std::uint64_t index) {
  // Picklers number from 0; an index beyond the length of the pickle only serves to make the memo huge.
  if (index >= size_) fail(fmt::format("memo index {} in a pickle of {} bytes", index, size_), Code::refused);
  if (index >= memo_.size()) memo_.resize(index + 1, make_slot(Tag::unset, 0));
  memo_count_ += memo_[index].tag == Tag::unset;
  memo_[index] = top();
  if (top().tag == Tag::object || top().tag == Tag::storage) heap_.pin();
}

void Machine::get(std::uint64_t index) {
  if (index >= memo_.size() || memo_[index].tag == Tag::unset) fail(fmt::format("memo index {} was never set", index));
  push(memo_[index]);
  stack_.back().is_repeated = true;
}

void Machine::push_global(std::string_view module, std::string_view name) {
  if (module.size() + name.size() > kMaxNameBytes) {
    fail(fmt::format("a global's name of {} bytes; the limit is {}", module.size() + name.size(), kMaxNameBytes),
         Code::refused);
  }
  if (!is_utf8(module) || !is_utf8(name)) fail("a global's name that is not UTF-8");
  Global global = look_up(module, name);
  const auto also_known = heap_.context().also_known;
  if (global.role == Role::unknown && also_known != nullptr && also_known(module, name)) global.role = Role::inert;
  const UnknownClasses policy = heap_.context().unknown_classes;
  if (global.role == Role::unknown &&
      (policy == UnknownClasses::refuse || (policy == UnknownClasses::opaque && is_attack(module, name)))) {
    fail(fmt::format("refused global '{}'", global.full_name()), Code::refused);
  }
  push(heap_.make_global(global));
}

void Machine::stack_global() {
  const Slot name = pop();
  const Slot module = pop();
  if (module.tag != Tag::string || name.tag != Tag::string) fail("a global's name is not a text");
  push_global(heap_.text(module), heap_.text(name));
}

// Takes the items that an object below them has received off the stack. The object may be older than the open MARK.
void Machine::added(std::size_t count) {
  drop(count);
  heap_.pin();
}

void Machine::append(std::span<const Slot> items) {
  const Slot target = below(items.size());
  if (heap_.is(target, ObjectKind::list))
    heap_.append(target, items);
  else if (heap_.is(target, ObjectKind::opaque))
    heap_.append_to_opaque(target, kOpaqueListItems, items);
  else
    fail(fmt::format("APPEND to {}", heap_.describe(target)));
  added(items.size());
}

void Machine::set_items(std::span<const Slot> items) {
  if (items.size() % 2 != 0) fail("a key without a value");
  const Slot target = below(items.size());
  if (heap_.is(target, ObjectKind::dict) || heap_.is(target, ObjectKind::ordered_dict) ||
      heap_.is(target, ObjectKind::counter)) {
    heap_.append(target, items);
  } else if (heap_.is(target, ObjectKind::opaque)) {
    heap_.append_to_opaque(target, kOpaqueDictItems, items);
  } else {
    fail(fmt::format("SETITEM on {}", heap_.describe(target)));
  }
  added(items.size());
}

void Machine::add_items(std::span<const Slot> items) {
  const Slot target = below(items.size());
  if (!heap_.is(target, ObjectKind::set)) fail(fmt::format("ADDITEMS to {}", heap_.describe(target)));
  heap_.append(target, items);
  added(items.size());
}

void Machine::push_dict_above_mark() {
  const auto items = above_mark();
  if (items.size() % 2 != 0) fail("a key without a value");
  collect(ObjectKind::dict, items);
}

void Machine::reduce() {
  const Slot args = pop();
  const Slot callee = pop();
  const Slot result = call(heap_, callee, args);
  // A tensor has no more use for its arguments: nothing leads to them unless they were put into the memo.
  const bool made_of_copies = callee.tag == Tag::global && heap_.global(callee).role >= Role::tensor &&
                              heap_.global(callee).role <= Role::tensor_v3;
  const bool just_made = last_tuple_.tag == Tag::object && args.index == last_tuple_.index;
  push(made_of_copies && just_made ? heap_.keep_only(result, before_tuple_) : result);
  last_tuple_ = {};
}

void Machine::new_object(bool has_keywords) {
  const Slot keywords = has_keywords ? pop() : Slot{};
  const Slot args = pop();
  const Slot type = pop();
  if (!heap_.is(args, ObjectKind::tuple) || (has_keywords && !heap_.is(keywords, ObjectKind::dict))) {
    fail("NEWOBJ without a tuple of arguments");
  }
  if (heap_.is_opaque_class(type)) {
    push(heap_.make_opaque(type, Opaque::Form::newobj, args, keywords));
  } else if (!has_keywords || heap_.items(keywords).empty()) {
    push(call(heap_, type, args));
  } else {
    fail(fmt::format("keyword arguments for {}", heap_.describe(type)), Code::unsupported);
  }
}

void Machine::old_instance(Slot type, std::span<const Slot> arguments, std::size_t taken) {
  const Slot args = heap_.make_object(ObjectKind::tuple, arguments);
  drop(taken);
  push(call(heap_, type, args));
}

void Machine::inst() {
  const std::string_view module = line();
  push_global(module, line());
  const Slot type = pop();
  const auto arguments = above_mark();
  old_instance(type, arguments, arguments.size());
}

void Machine::obj() {
  const auto slots = above_mark();
  if (slots.empty()) fail("OBJ without a class");
  old_instance(slots[0], slots.subspan(1), slots.size());
}

void Machine::build() {
  const Slot state = pop();
  pickle::build(heap_, top(), state);
  heap_.pin();
}

Slot Machine::text_id(std::string_view text) {
  std::int64_t value = 0;
  const auto result = std::from_chars(text.data(), text.data() + text.size(), value);
  if (result.ec == std::errc() && result.ptr == text.data() + text.size()) return Heap::make_integer(value);
  if (!is_utf8(text)) fail("a persistent id that is not UTF-8");
  return heap_.make_decoded(Tag::string, text);
}

void Machine::persistent_id(Slot id) {
  const auto fields = heap_.is(id, ObjectKind::tuple) ? heap_.items(id) : std::span<const Slot>();
  const std::string_view kind = !fields.empty() && fields[0].tag == Tag::string ? heap_.text(fields[0]) : "";
  if (kind == "storage" && (fields.size() == 5 || fields.size() == 6)) return push(storage(fields));
  // A class, with its source code for the reader to compare with: before PyTorch 1.6.
  if (kind == "module" && fields.size() == 4 && fields[1].tag == Tag::global) return push(fields[1]);
  if (heap_.context().load_numbered) {
    if (!fields.empty() && fields[0].tag == Tag::global) return push(fields[0]);
    const Slot number = id.tag == Tag::string || id.tag == Tag::bytes ? text_id(heap_.text(id)) : id;
    if (number.tag == Tag::integer) return push(numbered(number.integer));
  }
  if (kind == "storage") fail(fmt::format("a storage id of {} fields, expected 5 or 6", fields.size()));
  if (heap_.context().unknown_classes != UnknownClasses::refuse) {
    return push(heap_.make_opaque(heap_.make_global({}), Opaque::Form::persistent, id));
  }
  fail(fmt::format("a persistent id that is not a storage, but {}", heap_.describe(id)), Code::unsupported);
}

// What has one number is one object, wherever it stands.
Slot Machine::numbered(std::int64_t number) {
  const auto [known, is_new] = numbered_.try_emplace(number);
  if (!is_new) return known->second;
  std::variant<LoadedStorage, Tensor> loaded = at_this_place([&] { return heap_.context().load_numbered(number); });
  auto* tensor = std::get_if<Tensor>(&loaded);
  known->second = tensor != nullptr ? heap_.make_tensor(std::move(*tensor))
                                    : heap_.make_storage(std::move(std::get<LoadedStorage>(loaded)));
  heap_.pin();
  return known->second;
}

// ('storage', class, key, location, numel), before PyTorch 1.6 also a view of it: None or (key, first, count)
Slot Machine::storage(std::span<const Slot> fields) {
  if (!heap_.is(fields[1], Role::storage_class) || fields[2].tag != Tag::string || fields[3].tag != Tag::string ||
      fields[4].tag != Tag::integer || fields[4].integer < 0) {
    fail("a storage id is ('storage', class, key, location, number of elements)");
  }
  const std::optional<DType> dtype = heap_.global(fields[1]).dtype;
  const auto numel = static_cast<std::uint64_t>(fields[4].integer);
  const std::uint64_t item = dtype ? itemsize(*dtype) : 1;
  if (numel > std::numeric_limits<std::int64_t>::max() / item) fail(fmt::format("a storage of {} elements", numel));
  // Meta tensors are saved without a storage.
  if (numel != 0 && heap_.text(fields[3]) == "meta") fail("a storage with bytes on the device meta");
  const StorageReference reference{dtype, heap_.text(fields[2]), heap_.text(fields[3]), numel * item};
  if (!heap_.context().load_storage) {
    fail(fmt::format("storage '{}', which nothing in this file holds", detail::show(reference.key)));
  }
  LoadedStorage loaded = at_this_place([&] { return heap_.context().load_storage(reference); });
  if (fields.size() == 6 && fields[5].tag != Tag::none) set_view(loaded, fields[5], fields[4].integer);
  return heap_.make_storage(std::move(loaded));
}

void Machine::set_view(LoadedStorage& loaded, Slot view, std::int64_t numel) {
  const auto fields = heap_.is(view, ObjectKind::tuple) ? heap_.items(view) : std::span<const Slot>();
  if (fields.size() != 3 || fields[1].tag != Tag::integer || fields[2].tag != Tag::integer) {
    fail("a view of a storage is (key, first element, number of elements)");
  }
  const std::int64_t first = fields[1].integer;
  const std::int64_t count = fields[2].integer;
  if (first < 0 || count < 0 || first > numel || count > numel - first) {
    fail(fmt::format("a view of {} elements from {} on, of a storage of {}", count, first, numel));
  }
  loaded.first = first;
  loaded.count = count;
}

}  // namespace torchkeep::pickle
