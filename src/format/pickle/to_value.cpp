// SPDX-License-Identifier: BSD-3-Clause
// The last step of reading a pickle: the graph of objects becomes Values, bottom-up and without recursion.
#include <array>
#include <unordered_map>

#include <torchkeep/base/hash.h>
#include <torchkeep/format/data_class.h>

#include "heap.h"

namespace torchkeep::pickle {
namespace {

class Converter {
 public:
  explicit Converter(Heap& heap) : heap_(heap), progress_(heap.objects().size(), kUnvisited) {
    values_.reserve(heap.objects().size());
  }

  Value run(Slot root) {
    enter(root);
    while (!frames_.empty()) {
      Frame& frame = frames_.back();
      const Object& object = heap_.objects()[frame.object];
      if (frame.next < child_count(object)) {
        enter(child(object, frame.next++));
      } else {
        leave(frame.object, object);
        frames_.pop_back();
      }
    }
    return value(root);
  }

 private:
  struct Frame {
    std::uint32_t object;
    std::uint32_t next = 0;
  };
  // progress_: these two, or kFirst + index into values_
  enum : std::uint32_t { kUnvisited, kOpen, kFirst };

  void enter(Slot slot) {
    if (slot.tag != Tag::object || progress_[slot.index] != kUnvisited) return;
    progress_[slot.index] = kOpen;
    frames_.push_back({static_cast<std::uint32_t>(slot.index)});
  }

  // An opaque's list and dict items are children of its own: as containers they would have to be hashable.
  std::size_t child_count(const Object& object) const noexcept {
    if (object.kind == ObjectKind::opaque)
      return kOpaqueListItems + list_items(object).size() + dict_items(object).size();
    return object.count + (object.attributes != 0);
  }
  Slot child(const Object& object, std::size_t i) const noexcept {
    if (object.kind == ObjectKind::opaque && i >= kOpaqueListItems) {
      i -= kOpaqueListItems;
      const auto list = list_items(object);
      return i < list.size() ? list[i] : dict_items(object)[i - list.size()];
    }
    return i < object.count ? heap_.items(object)[i] : attributes(object);
  }
  std::span<const Slot> list_items(const Object& object) const noexcept {
    return items_of_opaque(object, kOpaqueListItems);
  }
  std::span<const Slot> dict_items(const Object& object) const noexcept {
    return items_of_opaque(object, kOpaqueDictItems);
  }
  std::span<const Slot> items_of_opaque(const Object& object, OpaqueItem item) const noexcept {
    const Slot slot = heap_.items(object)[item];
    return slot.tag == Tag::none ? std::span<const Slot>() : heap_.items(slot);
  }
  static Slot attributes(const Object& object) noexcept { return make_slot(Tag::object, object.attributes - 1); }

  void leave(std::uint32_t index, const Object& object) {
    Value value;
    try {
      value = object.kind == ObjectKind::opaque ? opaque(object, labels_.contains(index)) : make(object);
      if (object.attributes != 0) value.set_attributes(this->value(attributes(object)));
    } catch (const Error& error) {
      heap_.fail(error.code() == Code::refused ? Code::refused : Code::corrupt, error.message());
    }
    // Only now is it known whether something inside refers back to this object.
    if (!labels_.empty()) {
      if (const auto label = labels_.find(index); label != labels_.end()) value.set_label(label->second);
    }
    progress_[index] = kFirst + static_cast<std::uint32_t>(values_.size());
    values_.push_back(std::move(value));
  }

  Value value(Slot slot) {
    switch (slot.tag) {
      case Tag::unset:
      case Tag::none:
        return {};
      case Tag::boolean:
        return cached(booleans_[slot.integer != 0], [&] { return detail::make_boolean(slot.integer != 0); });
      case Tag::integer:
        return integer(slot.integer);
      case Tag::big_integer:
        return text(slot, [](std::string text) { return detail::make_integer(Integer::from_twos_complement(text)); });
      case Tag::real:
        return detail::make_real(slot.real);
      case Tag::string:
        return text(slot, [](std::string text) { return Value::string(std::move(text)); });
      case Tag::bytes:
        return text(slot, [](std::string text) { return Value::bytes(std::move(text)); });
      case Tag::global:
        return global(slot);
      case Tag::storage:
        return storage(heap_.storage(slot));
      case Tag::object:
        break;
    }
    const std::uint32_t progress = progress_[slot.index];
    if (progress >= kFirst) return values_[progress - kFirst];
    std::uint64_t& label = labels_[static_cast<std::uint32_t>(slot.index)];
    if (label == 0) label = Value::new_label();
    return Value::back_reference(label);
  }

  template <class Make>
  static Value cached(Value& place, Make make) {
    if (place.is_none()) place = make();
    return place;
  }
  // Small numbers share a node, as in Python.
  Value integer(std::int64_t number) {
    if (number < 0 || number >= static_cast<std::int64_t>(integers_.size())) return detail::make_integer(number);
    return cached(integers_[static_cast<std::size_t>(number)], [&] { return detail::make_integer(number); });
  }

  // A text that stands in several places is made once.
  template <class Make>
  Value text(Slot slot, Make make) {
    const auto make_text = [&] {
      const std::string_view text = heap_.text(slot);
      heap_.charge(text.size());
      return make(std::string(text));
    };
    if (!slot.is_repeated) return make_text();
    const std::uint64_t key = slot.offset << 3 | static_cast<std::uint64_t>(slot.is_decoded) << 2 |
                              (static_cast<std::uint64_t>(slot.tag) - static_cast<std::uint64_t>(Tag::big_integer));
    return cached(texts_[key], [&] { return once(make_text()); });
  }

  // Long texts of the same content become one, so that dicts which have them as keys need not compare them.
  Value once(Value text) {
    constexpr std::size_t kLong = 4096;
    if ((!text.is(Kind::string) && !text.is(Kind::bytes)) || text.size() < kLong) return text;
    const std::string& bytes = text.is(Kind::string) ? text.as_string() : text.as_bytes();
    Value& first = long_texts_[torchkeep::detail::hash_text(bytes, torchkeep::detail::hash_seed())];
    if (first.is_none()) first = text;
    return first == text ? first : text;
  }

  Value global(Slot slot) {
    const Global& global = heap_.global(slot);
    if (global.role == Role::dtype) return detail::make_dtype(*global.dtype);
    return cached(globals_[slot.index], [&] {
      Opaque opaque;
      opaque.module = global.module;
      opaque.name = global.name;
      opaque.form = Opaque::Form::global;
      return detail::make_opaque(std::move(opaque));
    });
  }
  // A storage saved as a value of its own: shown as the tensor of all its elements.
  Value storage(const LoadedStorage& loaded) {
    heap_.charge(2 * sizeof(Tensor) + sizeof(Opaque));
    const auto all = static_cast<std::int64_t>(loaded.storage->nbytes() / itemsize(loaded.dtype));
    Tensor tensor;
    tensor.dtype = loaded.dtype;
    tensor.sizes = {loaded.count.value_or(all)};
    tensor.strides = {1};
    tensor.storage_offset = loaded.first;
    tensor.storage = loaded.storage;
    Opaque opaque;
    opaque.module = "torch.storage";
    opaque.name = "TypedStorage";
    opaque.form = Opaque::Form::persistent;
    opaque.args = detail::make_tensor(std::move(tensor));
    return detail::make_opaque(std::move(opaque));
  }

  std::vector<Value> values(std::span<const Slot> slots) {
    std::vector<Value> values;
    values.reserve(slots.size());
    for (const Slot slot : slots) values.push_back(value(slot));
    return values;
  }
  std::vector<Entry> entries(std::span<const Slot> slots) {
    std::vector<Entry> entries;
    entries.reserve(slots.size() / 2);
    for (std::size_t i = 0; i < slots.size(); i += 2) {
      entries.push_back({value(slots[i]), value(slots[i + 1])});
      charge_key(entries.back().key);
    }
    return entries;
  }
  std::vector<Value> elements_of_set(std::span<const Slot> slots) {
    std::vector<Value> elements = values(slots);
    for (const Value& element : elements) charge_key(element);
    return elements;
  }

  // A key is hashed each time it stands in a dict, part by part, however often its parts are shared.
  void charge_key(const Value& key) {
    constexpr std::uint64_t kPartCost = 16;
    constexpr std::size_t kMostParts = 65536;  // a key of more is refused
    const auto has_parts = [](const Value& part) { return part.is_sequence() || part.is(Kind::frozenset); };
    if (key.is(Kind::integer) && !key.as_integer().to_int64())
      heap_.charge(key.as_integer().to_twos_complement().size());
    if (!has_parts(key)) return;
    std::vector<const Value*> pending{&key};
    for (std::size_t parts = 0; !pending.empty() && parts <= kMostParts;) {
      const Value& part = *pending.back();
      pending.pop_back();
      if (!has_parts(part)) continue;
      parts += part.elements().size();
      heap_.charge(kPartCost * part.elements().size());
      for (const Value& element : part.elements()) pending.push_back(&element);
    }
  }

  Value make(const Object& object) {
    const auto items = heap_.items(object);
    switch (object.kind) {
      case ObjectKind::list:
        return Value::sequence(Kind::list, values(items));
      case ObjectKind::tuple:
        return Value::sequence(Kind::tuple, values(items));
      case ObjectKind::size:
        return Value::sequence(Kind::size, values(items));
      case ObjectKind::set:
        return Value::sequence(Kind::set, elements_of_set(items));
      case ObjectKind::frozenset:
        return Value::sequence(Kind::frozenset, elements_of_set(items));
      case ObjectKind::dict:
        return Value::mapping(Kind::dict, entries(items));
      case ObjectKind::ordered_dict:
        return Value::mapping(Kind::ordered_dict, entries(items));
      case ObjectKind::counter:
        return Value::mapping(Kind::counter, entries(items));
      case ObjectKind::complex:
        return Value(std::complex<double>(items[0].real, items[1].real));
      case ObjectKind::bytearray:
        return Value::bytes(std::string(heap_.text(items[0])), Kind::bytearray);
      case ObjectKind::device:
        return detail::make_device({std::string(heap_.text(items[0]))});
      case ObjectKind::tensor:
        return heap_.take_tensor(object);
      case ObjectKind::sparse:
        return sparse(heap_.sparse(object), items);
      case ObjectKind::nested:
        return detail::make_nested_tensor({value(items[0]), value(items[1]), value(items[2]), value(items[3])});
      case ObjectKind::opaque:
        break;
    }
    return {};
  }
  Value sparse(const SparseParts& parts, std::span<const Slot> items) {
    return detail::make_sparse_tensor(
        {parts.layout, value(items[0]), value(items[1]), value(items[2]), parts.sizes, parts.is_coalesced});
  }
  Value opaque(const Object& object, bool contains_itself) {
    const auto items = heap_.items(object);
    const Global& global = heap_.opaque_global(object);
    // A module of TorchScript is its attributes.
    if (global.role == Role::script_class && heap_.is(items[kOpaqueState], ObjectKind::dict)) {
      return value(items[kOpaqueState]);
    }
    Opaque opaque{std::string(global.module), std::string(global.name),    heap_.opaque(object).form,
                  value(items[kOpaqueArgs]),  value(items[kOpaqueKwargs]), value(items[kOpaqueState]),
                  values(list_items(object)), entries(dict_items(object))};
    if (auto plain = as_data(opaque, contains_itself)) return *std::move(plain);
    return detail::make_opaque(std::move(opaque));
  }
  // Of the classes that are data. PyTorch's rule, that of UnknownClasses::refuse, knows none of them.
  std::optional<Value> as_data(const Opaque& opaque, bool contains_itself) const {
    const ReadContext& context = heap_.context();
    const DataClass* row = context.unknown_classes == UnknownClasses::refuse ? nullptr : data_class_of(opaque);
    if (row == nullptr || (row->is_builtin && context.keep_builtin_classes)) return std::nullopt;
    auto plain = plain_data(opaque);
    const bool can_contain_itself = plain && (plain->is_mapping() || plain->is(Kind::list)) && plain->label() == 0;
    return contains_itself && !can_contain_itself ? std::nullopt : plain;
  }

  Heap& heap_;
  LargeVector<std::uint32_t> progress_;                      // of each object
  LargeVector<Value> values_;                                // of finished objects
  std::vector<Frame> frames_;                                // open objects, outermost first
  std::unordered_map<std::uint32_t, std::uint64_t> labels_;  // of objects something inside refers back to
  std::unordered_map<std::uint64_t, Value> texts_;
  std::unordered_map<std::uint64_t, Value> long_texts_;  // by the hash of their content
  std::unordered_map<std::uint64_t, Value> globals_;
  std::array<Value, 2> booleans_;
  std::array<Value, 256> integers_;
};

}  // namespace

Value to_value(Heap& heap, Slot root) {
  return Converter(heap).run(root);
}

}  // namespace torchkeep::pickle
