// SPDX-License-Identifier: BSD-3-Clause
// The loop over the instructions of a pickle.
#include "machine.h"

namespace torchkeep::pickle {
namespace {

constexpr int kMaxProtocol = 5;

}  // namespace

void Machine::step(Op op) {
  switch (op) {
    case Op::proto:
      if (const int version = reader_.read<std::uint8_t>(); version > kMaxProtocol) {
        fail(fmt::format("pickle protocol {}; the newest known is {}", version, kMaxProtocol), Code::unsupported);
      }
      return;
    case Op::frame:
      reader_.read<std::uint64_t>();
      return;
    case Op::stop:
      return;

    case Op::none:
      return push({});
    case Op::new_true:
      return push(Heap::make_boolean(true));
    case Op::new_false:
      return push(Heap::make_boolean(false));
    case Op::int_text:
      return push_int_text();
    case Op::long_text:
      return push_decimal(line());
    case Op::float_text:
      return push(Heap::make_real(number<double>(line())));
    case Op::bin_int:
      return push(Heap::make_integer(reader_.read<std::int32_t>()));
    case Op::bin_int1:
      return push(Heap::make_integer(reader_.read<std::uint8_t>()));
    case Op::bin_int2:
      return push(Heap::make_integer(reader_.read<std::uint16_t>()));
    case Op::long1:
      return push_long<std::uint8_t>();
    case Op::long4:
      return push_long<std::int32_t>();
    case Op::bin_float:
      return push_float();

    case Op::string:
      return push_quoted();
    case Op::bin_string:
      return push_python2_text<std::int32_t>();
    case Op::short_bin_string:
      return push_python2_text<std::uint8_t>();
    case Op::unicode:
      return push_decoded(Tag::string, decode_raw_unicode_escape(line()));
    case Op::bin_unicode:
      return push_text<std::uint32_t>(Tag::string);
    case Op::short_bin_unicode:
      return push_text<std::uint8_t>(Tag::string);
    case Op::bin_unicode8:
      return push_text<std::uint64_t>(Tag::string);
    case Op::bin_bytes:
      return push_text<std::uint32_t>(Tag::bytes);
    case Op::short_bin_bytes:
      return push_text<std::uint8_t>(Tag::bytes);
    case Op::bin_bytes8:
      return push_text<std::uint64_t>(Tag::bytes);
    case Op::byte_array8:
      push_text<std::uint64_t>(Tag::bytes);
      return collect(ObjectKind::bytearray, 1);
    case Op::next_buffer:
    case Op::readonly_buffer:
      fail("buffers outside the pickle", Code::unsupported);

    case Op::mark:
      return mark();
    case Op::empty_tuple:
      return collect(ObjectKind::tuple, std::span<const Slot>());
    case Op::tuple:
      return tuple();
    case Op::tuple1:
      return collect(ObjectKind::tuple, 1);
    case Op::tuple2:
      return collect(ObjectKind::tuple, 2);
    case Op::tuple3:
      return collect(ObjectKind::tuple, 3);
    case Op::empty_list:
      return collect(ObjectKind::list, std::span<const Slot>());
    case Op::list:
      return collect(ObjectKind::list, above_mark());
    case Op::append:
      return append(topmost(1));
    case Op::appends:
      return append(above_mark());
    case Op::empty_dict:
      return collect(ObjectKind::dict, std::span<const Slot>());
    case Op::dict:
      return push_dict_above_mark();
    case Op::set_item:
      return set_items(topmost(2));
    case Op::set_items:
      return set_items(above_mark());
    case Op::empty_set:
      return collect(ObjectKind::set, std::span<const Slot>());
    case Op::add_items:
      return add_items(above_mark());
    case Op::frozen_set:
      return collect(ObjectKind::frozenset, above_mark());

    case Op::global: {
      const std::string_view module = line();
      return push_global(module, line());
    }
    case Op::stack_global:
      return stack_global();
    case Op::reduce:
      return reduce();
    case Op::build:
      return build();
    case Op::new_obj:
      return new_object(false);
    case Op::new_obj_ex:
      return new_object(true);
    case Op::inst:
      return inst();
    case Op::obj:
      return obj();
    case Op::pers_id:
      return persistent_id(text_id(line()));
    case Op::bin_pers_id:
      return persistent_id(pop());
    case Op::ext1:
    case Op::ext2:
    case Op::ext4:
      fail("an extension code, whose meaning only the writing program knows", Code::refused);

    case Op::pop:
      if (depth() == 0 && !marks_.empty())
        marks_.pop_back();
      else
        pop();
      return;
    case Op::pop_mark:
      return drop(above_mark().size());
    case Op::dup:
      return dup();
    case Op::get:
      return get(number<std::uint64_t>(line()));
    case Op::bin_get:
      return get(reader_.read<std::uint8_t>());
    case Op::long_bin_get:
      return get(reader_.read<std::uint32_t>());
    case Op::put:
      return put(number<std::uint64_t>(line()));
    case Op::bin_put:
      return put(reader_.read<std::uint8_t>());
    case Op::long_bin_put:
      return put(reader_.read<std::uint32_t>());
    case Op::memoize:
      return put(memo_count_);
  }
  fail(fmt::format("unknown instruction {:#04x}", static_cast<unsigned>(op)));
}

Value read(Bytes bytes, const ReadContext& context, std::uint64_t* end) {
  Machine machine(bytes, context);
  Value value = machine.run();
  if (end != nullptr) *end = machine.position();
  return value;
}

void look(Bytes bytes, const ReadContext& context, const std::function<void(const Heap&, Slot)>& look) {
  Machine(bytes, context).run(look);
}

}  // namespace torchkeep::pickle
