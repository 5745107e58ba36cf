// SPDX-License-Identifier: BSD-3-Clause
// What a running pickle has made so far: 16-byte slots, and objects that hold runs of slots.
#pragma once

#include <deque>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <torchkeep/base/memory.h>
#include <torchkeep/state/value.h>

#include "allow_list.h"
#include "pickle.h"

namespace torchkeep::pickle {

enum class Tag : std::uint8_t {
  unset,  // a place of the memo that nothing was put into
  none,
  boolean,      // integer
  integer,      // integer
  big_integer,  // text: two's complement, more than 8 bytes
  real,         // real
  string,       // text: UTF-8
  bytes,        // text
  global,       // index into Heap::globals
  storage,      // index into Heap::storages
  object,       // index into Heap::objects
};

/// A value on the stack, in the memo or in a container. Texts are not copied: they stay where they are in the pickle.
struct Slot {
  Tag tag = Tag::none;
  bool is_decoded = false;   ///< text is the index-th of those the heap decoded, and not in the pickle
  bool is_repeated = false;  ///< text came out of the memo, so it stands in several places
  std::uint32_t length = 0;  ///< of a text
  union {
    std::int64_t integer = 0;
    double real;
    std::uint64_t offset;  ///< of a text in the pickle
    std::uint64_t index;
  };
};
static_assert(sizeof(Slot) == 16);

/// A slot of a kind whose content is an index or the place of a text.
inline Slot make_slot(Tag tag, std::uint64_t index, std::uint32_t length = 0) noexcept {
  Slot slot;
  slot.tag = tag;
  slot.length = length;
  slot.index = index;
  return slot;
}

enum class ObjectKind : std::uint8_t {
  list,
  tuple,
  size,
  dict,
  ordered_dict,
  counter,
  set,
  frozenset,
  complex,    // real and imaginary part
  bytearray,  // its bytes
  device,     // its name
  tensor,     // extra: index into Heap::tensors
  sparse,     // indices, plain indices, values; extra: index into Heap::sparse
  nested,     // buffer, sizes, strides, offsets
  opaque,     // OpaqueItem; extra: index into Heap::opaques
};

/// A container or other object: items are a run of Heap::pool.
struct Object {
  ObjectKind kind;
  std::uint32_t begin = 0;
  std::uint32_t count = 0;
  std::uint32_t capacity = 0;
  std::uint32_t extra = 0;
  std::uint32_t attributes = 0;  ///< 1 + index of the dict object with its Python attributes; 0: none
};

/// The items of an opaque object; the last two are a list and a dict, or None while there are no such items.
enum OpaqueItem : std::size_t { kOpaqueArgs, kOpaqueKwargs, kOpaqueState, kOpaqueListItems, kOpaqueDictItems };

/// What an opaque object is made of, beside its items.
struct OpaqueParts {
  std::uint32_t global;
  Opaque::Form form;
};

/// Size and layout of a sparse tensor.
struct SparseParts {
  std::string layout;
  std::vector<std::int64_t> sizes;
  std::optional<bool> is_coalesced;
};

class Heap {
 public:
  /// How much there was at some moment.
  struct Level {
    std::size_t objects = 0;
    std::size_t pool = 0;
    std::size_t storages = 0;
  };

  Heap(Bytes pickle, const ReadContext& context);

  const ReadContext& context() const noexcept { return context_; }
  /// Where the instruction now running begins; errors name it.
  void set_position(std::uint64_t position) noexcept { position_ = position; }
  [[noreturn]] void fail(Code code, std::string message) const;
  /// `where` with the present position.
  Where where() const;
  /// Counts memory that is about to be taken; throws Error (refused) when it is more than a pickle of this size may
  /// take (Limits::max_expansion).
  void charge(std::uint64_t bytes) const {
    charged_ += bytes;
    if (charged_ > allowance_) fail_charge();
  }

  static Slot make_integer(std::int64_t value) noexcept;
  static Slot make_boolean(bool value) noexcept;
  static Slot make_real(double value) noexcept;
  /// A text that lies in the pickle at `offset`.
  Slot make_text(Tag tag, std::uint64_t offset, std::uint64_t length) const;
  /// A text that the pickle holds in another encoding.
  Slot make_decoded(Tag tag, std::string_view text);
  Slot make_global(const Global& global);
  Slot make_storage(LoadedStorage storage);
  Slot make_tensor(Tensor tensor);
  /// A new object holding `items`.
  Slot make_object(ObjectKind kind, std::span<const Slot> items = {}, std::uint32_t extra = 0);
  Slot make_opaque(Slot global, Opaque::Form form, Slot args, Slot kwargs = {});
  Slot make_sparse(SparseParts parts, std::span<const Slot> items);
  /// Makes an opaque object the tensor that its state says it is.
  void become_tensor(Slot object, Tensor tensor);
  /// Makes an opaque object what `made` is, to which nothing else leads.
  void become(Slot object, Slot made) noexcept { objects_[object.index] = objects_[made.index]; }

  Level level() const noexcept { return {objects_.size(), pool_.size(), storages_.size()}; }
  /// Notes that something from outside now leads to what was made last.
  void pin() noexcept { pinned_ = level(); }
  /// Forgets all that was made since `level` but the tensor `slot`, if nothing of it is pinned: the arguments of a
  /// rebuilt tensor. The caller knows that nothing on the stack leads there. Returns the tensor, which may have moved.
  Slot keep_only(Slot tensor, const Level& level);

  std::string_view text(Slot slot) const noexcept;
  Object& object(Slot slot) noexcept { return objects_[slot.index]; }
  const Object& object(Slot slot) const noexcept { return objects_[slot.index]; }
  const LargeVector<Object>& objects() const noexcept { return objects_; }
  /// Valid until something is added to the heap.
  std::span<const Slot> items(const Object& object) const noexcept {
    return {pool_.data() + object.begin, object.count};
  }
  std::span<const Slot> items(Slot slot) const noexcept { return items(object(slot)); }
  void append(Slot object, std::span<const Slot> items);
  /// Replaces one item of an object (an opaque's state).
  void set_item(Slot object, std::size_t index, Slot value) noexcept {
    pool_[this->object(object).begin + index] = value;
  }
  const Global& global(Slot slot) const noexcept { return globals_[slot.index]; }
  const LoadedStorage& storage(Slot slot) const noexcept { return storages_[slot.index]; }
  const Tensor& tensor(const Object& object) const { return tensors_[object.extra].as_tensor(); }
  /// The tensor itself, when nobody needs it here any more.
  Value take_tensor(const Object& object) noexcept { return std::move(tensors_[object.extra]); }
  const SparseParts& sparse(const Object& object) const noexcept { return sparse_[object.extra]; }
  const OpaqueParts& opaque(const Object& object) const noexcept { return opaques_[object.extra]; }
  const Global& opaque_global(const Object& object) const noexcept { return globals_[opaque(object).global]; }
  Slot opaque_class(Slot slot) const noexcept { return make_slot(Tag::global, opaque(object(slot)).global); }
  /// Adds to the list or dict items of an opaque object.
  void append_to_opaque(Slot object, OpaqueItem item, std::span<const Slot> items);

  bool is(Slot slot, ObjectKind kind) const noexcept { return slot.tag == Tag::object && object(slot).kind == kind; }
  bool is(Slot slot, Role role) const noexcept { return slot.tag == Tag::global && global(slot).role == role; }
  /// A global whose instances are kept as Opaque.
  bool is_opaque_class(Slot slot) const noexcept;
  /// What a slot is, for errors: "an int", "a list", "the global os.system".
  std::string describe(Slot slot) const;

 private:
  std::uint32_t extend_pool(std::span<const Slot> items, std::size_t capacity);
  [[noreturn]] void fail_charge() const;
  std::uint32_t add(Tensor tensor);

  std::string_view pickle_;
  const ReadContext& context_;
  std::uint64_t position_ = 0;
  std::uint64_t allowance_;
  mutable std::uint64_t charged_ = 0;
  std::optional<Slot> empty_tuple_;
  std::deque<std::string> decoded_;  // they never move: globals and keys look at them
  Level pinned_;
  LargeVector<Slot> pool_;
  LargeVector<Object> objects_;
  std::vector<Global> globals_;
  LargeVector<LoadedStorage> storages_;
  LargeVector<Value> tensors_;
  std::vector<SparseParts> sparse_;
  std::vector<OpaqueParts> opaques_;
};

/// The result of `callee(*args)` for a callee on the allow-list (or the Opaque that stands for it).
Slot call(Heap& heap, Slot callee, Slot args);

/// BUILD: gives `target` its state.
void build(Heap& heap, Slot target, Slot state);

/// read() for those who take what they need off the heap: a pickle of millions of small objects then costs no Values.
void look(Bytes bytes, const ReadContext& context, const std::function<void(const Heap&, Slot)>& look);

/// Turns what is reachable from `root` into Values, which take the tensors out of the heap.
Value to_value(Heap& heap, Slot root);

}  // namespace torchkeep::pickle
