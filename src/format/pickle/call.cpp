// SPDX-License-Identifier: BSD-3-Clause
// REDUCE and NEWOBJ of a callable on the allow-list: which of the shapes in rebuild.h it is.
#include <fmt/format.h>

#include "rebuild.h"

namespace torchkeep::pickle {
namespace {

// getattr(Color, 'RED'), as Python writes some members of an Enum: the name Color.RED. Anything else stays an object.
std::optional<Slot> named_member(Heap& heap, Slot callee, Slot args) {
  const Global& function = heap.global(callee);
  const bool is_getattr =
      function.name == "getattr" && (function.module == "builtins" || function.module == "__builtin__");
  const auto parts = heap.items(args);
  if (!is_getattr || parts.size() != 2 || parts[0].tag != Tag::global || parts[1].tag != Tag::string)
    return std::nullopt;
  const Global owner = heap.global(parts[0]);
  const Slot name = heap.make_decoded(Tag::string, fmt::format("{}.{}", owner.name, heap.text(parts[1])));
  const Global member{.module = owner.module, .name = heap.text(name), .role = Role::unknown, .dtype = {}};
  if (heap.context().unknown_classes == UnknownClasses::opaque && is_attack(member.module, member.name))
    heap.fail(Code::refused, fmt::format("refused global '{}'", member.full_name()));
  return heap.make_global(member);
}

}  // namespace

Slot call(Heap& heap, Slot callee, Slot slot) {
  if (callee.tag != Tag::global) heap.fail(Code::refused, fmt::format("a call of {}", heap.describe(callee)));
  if (heap.is_opaque_class(callee)) {
    if (!heap.is(slot, ObjectKind::tuple)) {
      heap.fail(Code::corrupt,
                fmt::format("{}: called with {}, not a tuple", heap.describe(callee), heap.describe(slot)));
    }
    if (const auto member = named_member(heap, callee, slot)) return *member;
    return heap.make_opaque(callee, Opaque::Form::reduce, slot);
  }
  const Arguments args(heap, callee, slot);
  switch (heap.global(callee).role) {
    case Role::ordered_dict:
      return make_ordered_dict(heap, args);
    case Role::default_dict:
      return make_default_dict(heap, args, slot);
    case Role::counter:
      return make_container(heap, args, ObjectKind::counter);
    case Role::set:
      return make_container(heap, args, ObjectKind::set);
    case Role::frozenset:
      return make_container(heap, args, ObjectKind::frozenset);
    case Role::complex:
      return make_complex(heap, args);
    case Role::bytes:
      return make_bytes(heap, args);
    case Role::bytearray:
      return make_bytearray(heap, args);
    case Role::codecs_encode:
      return encode_latin1(heap, args);
    case Role::reconstructor:
      return reconstruct(heap, args, slot);
    case Role::script_identity:
      return first_argument(args);
    case Role::numpy_scalar:
      return numpy_scalar(heap, args, slot);
    case Role::numpy_from_buffer:
      return numpy_from_buffer(heap, args, slot);
    case Role::size:
      return make_size(heap, args);
    case Role::device:
      return make_device(heap, args);
    case Role::layout:
      return make_layout(heap, args, slot);
    case Role::tensor:
      return rebuild_tensor(heap, args);
    case Role::tensor_v2:
      return rebuild_tensor_v2(heap, args);
    case Role::tensor_v3:
      return rebuild_tensor_v3(heap, args);
    case Role::parameter:
      return rebuild_parameter(heap, args, false);
    case Role::parameter_with_state:
      return rebuild_parameter(heap, args, true);
    case Role::quantized:
      return rebuild_quantized(heap, args);
    case Role::sparse:
      return rebuild_sparse(heap, args);
    case Role::nested:
      return rebuild_nested(heap, args);
    case Role::meta:
      return rebuild_meta(heap, args);
    case Role::device_tensor_from_numpy:
      return rebuild_device_tensor_from_numpy(heap, args);
    case Role::device_tensor_from_cpu:
      return rebuild_device_tensor_from_cpu(heap, args);
    case Role::load_from_bytes:
      return load_from_bytes(heap, args);
    case Role::from_type:
      return rebuild_from_type(heap, args, slot);
    case Role::tensor_class:
    case Role::parameter_class:
      return make_old_tensor(heap, args, slot);
    case Role::unknown:
    case Role::inert:
    case Role::script_class:
    case Role::numpy_reconstruct:
    case Role::numpy_dtype:
    case Role::dtype:
    case Role::scheme:
    case Role::storage_class:
      break;
  }
  args.fail("cannot be called", Code::unsupported);
}

}  // namespace torchkeep::pickle
