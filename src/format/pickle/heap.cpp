// SPDX-License-Identifier: BSD-3-Clause
// Making objects while a pickle runs, within the limits.
#include "heap.h"

#include <algorithm>
#include <array>
#include <fmt/format.h>
#include <limits>

#include <torchkeep/base/checked.h>

namespace torchkeep::pickle {
namespace {

constexpr std::uint64_t kMaxIndex = std::numeric_limits<std::uint32_t>::max();

// What is charged, in bytes: an object here and the node of a Value that it becomes, a place in a container, a tensor's
// parts, a storage's.
constexpr std::uint64_t kObjectCost = 256;
constexpr std::uint64_t kSlotCost = sizeof(Slot) + sizeof(Value);
constexpr std::uint64_t kTensorCost = 512;
constexpr std::uint64_t kDimensionCost = 32;
constexpr std::uint64_t kUnlimited = std::numeric_limits<std::uint64_t>::max();
constexpr std::uint64_t kStorageCost = 512;

std::string_view describe(ObjectKind kind) {
  constexpr std::string_view kNames[] = {"a list",           "a tuple",         "a torch.Size", "a dict",
                                         "an OrderedDict",   "a Counter",       "a set",        "a frozenset",
                                         "a complex number", "a bytearray",     "a device",     "a tensor",
                                         "a sparse tensor",  "a nested tensor", "an object"};
  return kNames[static_cast<std::size_t>(kind)];
}

}  // namespace

// torch.save spends about 7 bytes of a pickle on a slot in the pool, 13 on an object and 80 on a tensor. The room is
// only taken from the system as it fills, but growing step by step would copy everything again and again.
Heap::Heap(Bytes pickle, const ReadContext& context) : pickle_(as_text(pickle)), context_(context) {
  pool_.reserve(pickle.size() / 6);
  objects_.reserve(pickle.size() / 12);
  storages_.reserve(pickle.size() / 75);
  tensors_.reserve(pickle.size() / 75);
  const Limits& limits = context.limits;
  const auto expanded = checked_mul<std::uint64_t>(pickle.size(), limits.max_expansion);
  allowance_ = expanded ? checked_add(*expanded, limits.max_free_bytes).value_or(kUnlimited) : kUnlimited;
}

void Heap::fail_charge() const {
  fail(Code::refused, fmt::format("this pickle of {} bytes would take more than {} bytes of memory "
                                  "(Limits::max_expansion is {})",
                                  pickle_.size(), allowance_, context_.limits.max_expansion));
}

Where Heap::where() const {
  Where where = context_.where;
  where.offset = context_.base + position_;
  return where;
}

void Heap::fail(Code code, std::string message) const {
  throw Error(code, std::move(message), where());
}

Slot Heap::make_integer(std::int64_t value) noexcept {
  Slot slot = make_slot(Tag::integer, 0);
  slot.integer = value;
  return slot;
}

Slot Heap::make_boolean(bool value) noexcept {
  Slot slot = make_slot(Tag::boolean, 0);
  slot.integer = value;
  return slot;
}

Slot Heap::make_real(double value) noexcept {
  Slot slot = make_slot(Tag::real, 0);
  slot.real = value;
  return slot;
}

Slot Heap::make_text(Tag tag, std::uint64_t offset, std::uint64_t length) const {
  if (length > kMaxIndex) fail(Code::refused, fmt::format("a text of {} bytes; the limit is 4 GiB", length));
  return make_slot(tag, offset, static_cast<std::uint32_t>(length));
}

Slot Heap::make_decoded(Tag tag, std::string_view text) {
  charge(sizeof(std::string) + text.size());
  Slot slot = make_text(tag, decoded_.size(), text.size());
  slot.is_decoded = true;
  decoded_.emplace_back(text);
  return slot;
}

Slot Heap::make_global(const Global& global) {
  const Slot slot = make_slot(Tag::global, globals_.size());
  globals_.push_back(global);
  return slot;
}

Slot Heap::make_storage(LoadedStorage storage) {
  charge(kStorageCost);
  const Slot slot = make_slot(Tag::storage, storages_.size());
  storages_.push_back(std::move(storage));
  return slot;
}

std::uint32_t Heap::extend_pool(std::span<const Slot> items, std::size_t capacity) {
  charge(kSlotCost * capacity);
  if (pool_.size() + capacity > kMaxIndex) fail(Code::refused, "more than 2^32 elements");
  const auto begin = static_cast<std::uint32_t>(pool_.size());
  pool_.insert(pool_.end(), items.begin(), items.end());
  if (capacity > items.size()) pool_.resize(begin + capacity);
  return begin;
}

Slot Heap::make_object(ObjectKind kind, std::span<const Slot> items, std::uint32_t extra) {
  if (objects_.size() >= context_.limits.max_objects || objects_.size() >= kMaxIndex) {
    fail(Code::refused,
         fmt::format("more objects than the limit of {} (Limits::max_objects)", context_.limits.max_objects));
  }
  if (kind == ObjectKind::tuple && items.empty() && empty_tuple_) return *empty_tuple_;
  charge(kObjectCost);
  const Slot slot = make_slot(Tag::object, objects_.size());
  if (kind == ObjectKind::tuple && items.empty()) empty_tuple_ = slot;
  const auto count = static_cast<std::uint32_t>(items.size());
  const std::uint32_t begin = extend_pool(items, items.size());
  objects_.push_back(
      {.kind = kind, .begin = begin, .count = count, .capacity = count, .extra = extra, .attributes = 0});
  return slot;
}

// The place in tensors_, where they wait as the Values that they are going to be.
std::uint32_t Heap::add(Tensor tensor) {
  charge(kTensorCost + kDimensionCost * tensor.sizes.size());
  try {
    tensors_.push_back(detail::make_tensor(std::move(tensor)));
  } catch (const Error& error) {
    fail(error.code() == Code::refused ? Code::refused : Code::corrupt, error.message());
  }
  return static_cast<std::uint32_t>(tensors_.size() - 1);
}

Slot Heap::make_tensor(Tensor tensor) {
  return make_object(ObjectKind::tensor, {}, add(std::move(tensor)));
}

Slot Heap::make_sparse(SparseParts parts, std::span<const Slot> items) {
  const Slot slot = make_object(ObjectKind::sparse, items, static_cast<std::uint32_t>(sparse_.size()));
  sparse_.push_back(std::move(parts));
  return slot;
}

Slot Heap::make_opaque(Slot global, Opaque::Form form, Slot args, Slot kwargs) {
  charge(sizeof(Opaque) + this->global(global).module.size() + this->global(global).name.size());
  const std::array<Slot, 5> items = {args, kwargs};
  const Slot slot = make_object(ObjectKind::opaque, items, static_cast<std::uint32_t>(opaques_.size()));
  opaques_.push_back({static_cast<std::uint32_t>(global.index), form});
  return slot;
}

Slot Heap::keep_only(Slot tensor, const Level& level) {
  if (pinned_.objects > level.objects || pinned_.storages > level.storages) return tensor;
  if (!is(tensor, ObjectKind::tensor) || tensor.index < level.objects) return tensor;
  if (empty_tuple_ && empty_tuple_->index >= level.objects) empty_tuple_.reset();
  objects_[level.objects] = object(tensor);
  objects_.erase(objects_.begin() + static_cast<std::ptrdiff_t>(level.objects) + 1, objects_.end());
  pool_.resize(level.pool);
  storages_.erase(storages_.begin() + static_cast<std::ptrdiff_t>(level.storages), storages_.end());
  return make_slot(Tag::object, level.objects);
}

void Heap::become_tensor(Slot slot, Tensor tensor) {
  const std::uint32_t place = add(std::move(tensor));
  Object& object = this->object(slot);
  object.kind = ObjectKind::tensor;
  object.count = 0;
  object.extra = place;
}

void Heap::append_to_opaque(Slot opaque, OpaqueItem item, std::span<const Slot> items) {
  if (this->items(opaque)[item].tag == Tag::none) {
    set_item(opaque, item, make_object(item == kOpaqueListItems ? ObjectKind::list : ObjectKind::dict));
  }
  append(this->items(opaque)[item], items);
}

bool Heap::is_opaque_class(Slot slot) const noexcept {
  return is(slot, Role::unknown) || is(slot, Role::inert) || is(slot, Role::script_class) ||
         is(slot, Role::numpy_reconstruct) || is(slot, Role::numpy_dtype);
}

std::string_view Heap::text(Slot slot) const noexcept {
  if (slot.is_decoded) return decoded_[slot.index];
  return pickle_.substr(slot.offset, slot.length);
}

// A run that is full moves to the end of the pool with room to double, so that appending costs what it costs a vector.
void Heap::append(Slot slot, std::span<const Slot> items) {
  Object& object = this->object(slot);
  const std::size_t wanted = object.count + items.size();
  if (wanted > object.capacity && object.begin + object.capacity == pool_.size()) {
    extend_pool({}, wanted - object.capacity);
    object.capacity = static_cast<std::uint32_t>(wanted);
  } else if (wanted > object.capacity) {
    const std::size_t capacity = object.count == 0 ? wanted : 2 * wanted;
    const std::uint32_t begin = extend_pool({}, capacity);
    std::copy_n(pool_.begin() + object.begin, object.count, pool_.begin() + begin);
    object.begin = begin;
    object.capacity = static_cast<std::uint32_t>(capacity);
  }
  std::copy(items.begin(), items.end(), pool_.begin() + object.begin + object.count);
  object.count = static_cast<std::uint32_t>(wanted);
}

std::string Heap::describe(Slot slot) const {
  switch (slot.tag) {
    case Tag::unset:
    case Tag::none:
      return "None";
    case Tag::boolean:
      return "a bool";
    case Tag::integer:
    case Tag::big_integer:
      return "an int";
    case Tag::real:
      return "a float";
    case Tag::string:
      return "a str";
    case Tag::bytes:
      return "bytes";
    case Tag::global:
      return fmt::format("the global {}", global(slot).full_name());
    case Tag::storage:
      return "a storage";
    case Tag::object:
      break;
  }
  return std::string(pickle::describe(object(slot).kind));
}

}  // namespace torchkeep::pickle
