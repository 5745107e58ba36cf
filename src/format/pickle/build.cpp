// SPDX-License-Identifier: BSD-3-Clause
// BUILD: the state of an object, after it was made.
#include <fmt/format.h>

#include "rebuild.h"

namespace torchkeep::pickle {
namespace {

// Attributes of a dict, as Module.state_dict() gives its OrderedDict.
void set_attributes(Heap& heap, Slot target, Slot state) {
  if (!heap.is(state, ObjectKind::dict)) {
    const bool has_slots = heap.is(state, ObjectKind::tuple);
    heap.fail(has_slots ? Code::unsupported : Code::corrupt,
              fmt::format("attributes are {}, not a dict", heap.describe(state)));
  }
  if (heap.object(target).attributes != 0) heap.fail(Code::unsupported, "a second BUILD of one object");
  heap.object(target).attributes = static_cast<std::uint32_t>(state.index + 1);
}

void build_opaque(Heap& heap, Slot target, Slot state) {
  if (heap.is(heap.opaque_class(target), Role::numpy_reconstruct)) {
    if (const auto array = numpy_array(heap, state)) return heap.become(target, *array);
  }
  if (heap.items(target)[kOpaqueState].tag != Tag::none) {
    heap.fail(Code::unsupported, "a second BUILD of one object");
  }
  heap.set_item(target, kOpaqueState, state);
}

}  // namespace

void build(Heap& heap, Slot target, Slot state) {
  if (build_old_tensor(heap, target, state)) return;
  if (heap.is(target, ObjectKind::opaque)) {
    build_opaque(heap, target, state);
  } else if (heap.is(target, ObjectKind::ordered_dict) || heap.is(target, ObjectKind::dict) ||
             heap.is(target, ObjectKind::counter)) {
    set_attributes(heap, target, state);
  } else {
    heap.fail(Code::unsupported, fmt::format("BUILD of {}", heap.describe(target)));
  }
}

}  // namespace torchkeep::pickle
