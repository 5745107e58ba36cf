// SPDX-License-Identifier: BSD-3-Clause
// Tensors made of other tensors: parameters, tensors with attributes, tensors of other devices, and old pickles' forms.
#include <bit>
#include <cstring>
#include <fmt/format.h>

#include "rebuild.h"

namespace torchkeep::pickle {
namespace {

// Python attributes: a dict, or (dict, slots), of which the slots must be empty.
void set_attributes(Heap& heap, const Arguments& args, Slot tensor, Slot state) {
  if (heap.is(state, ObjectKind::tuple)) {
    const auto parts = heap.items(state);
    if (parts.size() != 2 || (heap.is(parts[1], ObjectKind::dict) && !heap.items(parts[1]).empty())) {
      args.fail("attributes in __slots__", Code::unsupported);
    }
    state = parts[0];
  }
  if (state.tag == Tag::none || (state.tag == Tag::boolean && state.integer == 0)) return;
  if (!heap.is(state, ObjectKind::dict)) args.fail(fmt::format("attributes in {}", heap.describe(state)));
  heap.object(tensor).attributes = static_cast<std::uint32_t>(state.index + 1);
}

// The gradient that was saved beside the data of a Variable: the attribute `grad`.
void set_gradient(Heap& heap, const Arguments& args, Slot target, const Tensor& data) {
  const Tensor& gradient = args.tensor(1);
  if (gradient.sizes != data.sizes || gradient.dtype != data.dtype) args.fail("a gradient unlike its tensor");
  const std::array<Slot, 2> entry = {heap.make_decoded(Tag::string, "grad"), args[1]};
  const Slot attributes = heap.make_object(ObjectKind::dict, entry);
  heap.object(target).attributes = static_cast<std::uint32_t>(attributes.index + 1);
}

// float32 numbers that came from bfloat16, back into it; nothing when one of them did not.
std::optional<Tensor> narrow_to_bfloat16(Heap& heap, const Tensor& tensor) {
  if (tensor.dtype != DType::float32) return std::nullopt;
  heap.charge(tensor.nbytes());
  const std::string wide = tensor.contiguous_bytes();
  std::string narrow(wide.size() / 2, '\0');
  for (std::size_t i = 0; i < wide.size() / 4; ++i) {
    std::uint32_t bits = 0;
    std::memcpy(&bits, wide.data() + 4 * i, 4);
    if ((bits & 0xffff) != 0) return std::nullopt;
    const auto high = static_cast<std::uint16_t>(bits >> 16);
    std::memcpy(narrow.data() + 2 * i, &high, 2);
  }
  return Tensor::from_bytes(DType::bfloat16, tensor.sizes, as_bytes(narrow));
}

bool is_without_hooks(const Heap& heap, Slot hooks) {
  return hooks.tag == Tag::none || (heap.is(hooks, ObjectKind::ordered_dict) && heap.items(hooks).empty());
}

}  // namespace

// tensor, requires_grad, hooks [, attributes]
Slot rebuild_parameter(Heap& heap, const Arguments& args, bool has_state) {
  args.expect(3 + has_state, 3 + has_state);
  Tensor tensor = args.tensor(0);
  tensor.is_parameter = true;
  tensor.requires_grad = args.boolean(1);
  args.expect_no_hooks(2);
  const Slot result = heap.make_tensor(std::move(tensor));
  if (has_state) set_attributes(heap, args, result, args[3]);
  return result;
}

// function, type, arguments, attributes: a tensor with attributes. Of a class of its own it stays an Opaque, in whose
// arguments and attributes the tensors it is made of can be found (a DTensor's local part, for one).
Slot rebuild_from_type(Heap& heap, const Arguments& args, Slot tuple) {
  args.expect(4, 4);
  const bool is_plain = heap.is(args[1], Role::tensor_class) || heap.is(args[1], Role::parameter_class);
  const Role function = args[0].tag == Tag::global ? heap.global(args[0]).role : Role::unknown;
  if (is_plain && function >= Role::tensor && function <= Role::meta) {
    const Slot result = call(heap, args[0], args[2]);
    set_attributes(heap, args, result, args[3]);
    return result;
  }
  if (heap.context().unknown_classes != UnknownClasses::refuse) {
    return heap.make_opaque(args.callee(), Opaque::Form::reduce, tuple);
  }
  args.fail(fmt::format("a tensor of {} rebuilt by {}", heap.describe(args[1]), heap.describe(args[0])),
            Code::unsupported);
}

// array, dtype, device, requires_grad: how tensors of accelerators without a storage were saved before PyTorch 2.6
Slot rebuild_device_tensor_from_numpy(Heap& heap, const Arguments& args) {
  args.expect(4, 4);
  Tensor tensor = args.tensor(0);
  const DType dtype = args.dtype(1);
  if (tensor.dtype != dtype) {
    auto narrow = dtype == DType::bfloat16 ? narrow_to_bfloat16(heap, tensor) : std::nullopt;
    if (!narrow) {
      args.fail(fmt::format("a {} tensor saved as {} numbers", to_string(dtype), to_string(tensor.dtype)),
                Code::unsupported);
    }
    tensor = std::move(*narrow);
  }
  args.text(2);
  tensor.requires_grad = args.boolean(3);
  return heap.make_tensor(std::move(tensor));
}

// tensor, dtype, device, requires_grad: the same since 2.6
Slot rebuild_device_tensor_from_cpu(Heap& heap, const Arguments& args) {
  args.expect(4, 4);
  Tensor tensor = args.tensor(0);
  if (tensor.dtype != args.dtype(1)) args.fail("a tensor of another dtype than it was saved with", Code::unsupported);
  args.text(2);
  tensor.requires_grad = args.boolean(3);
  return heap.make_tensor(std::move(tensor));
}

// The bytes of a file that torch.save wrote, holding one storage: what pickle.dump makes of a tensor.
Slot load_from_bytes(Heap& heap, const Arguments& args) {
  args.expect(1, 1);
  if (args[0].tag != Tag::bytes && args[0].tag != Tag::string) args.wrong(0, "bytes");
  const std::string_view bytes = heap.text(args[0]);
  if (!heap.context().load_nested) args.fail("a file of torch.save inside another one", Code::unsupported);
  heap.charge(bytes.size());
  try {
    return heap.make_storage(heap.context().load_nested(as_bytes(bytes)));
  } catch (const Error& error) {
    throw error.at(heap.where());
  }
}

// torch.FloatTensor(), filled by BUILD; Parameter(tensor [, requires_grad]); Variable(tensor)
Slot make_old_tensor(Heap& heap, const Arguments& args, Slot tuple) {
  args.expect(0, 2);
  if (args.count() == 0) return heap.make_opaque(args.callee(), Opaque::Form::newobj, tuple);
  Tensor tensor = args.tensor(0);
  tensor.is_parameter = heap.is(args.callee(), Role::parameter_class);
  tensor.requires_grad = args.count() == 2 ? args.boolean(1) : tensor.is_parameter;
  return heap.make_tensor(std::move(tensor));
}

// (storage, offset, size, stride); (requires_grad, volatile, hooks); or (data, gradient, hooks, requires_grad,
// volatile): Tensor.__setstate__
bool build_old_tensor(Heap& heap, Slot target, Slot state) {
  const bool is_tensor = heap.is(target, ObjectKind::tensor);
  const Slot type = heap.is(target, ObjectKind::opaque) ? heap.opaque_class(target) : Slot{};
  const bool is_empty = heap.is(type, Role::tensor_class) || heap.is(type, Role::parameter_class);
  if ((!is_tensor && !is_empty) || !heap.is(state, ObjectKind::tuple)) return false;
  const std::vector<Slot> parts(heap.items(state).begin(), heap.items(state).end());
  Tensor tensor = is_tensor ? heap.tensor(heap.object(target)) : Tensor{};
  if (is_tensor && parts.size() == 3) {
    if (parts[0].tag != Tag::boolean || !is_without_hooks(heap, parts[2])) return false;
    tensor.requires_grad = parts[0].integer != 0;
  } else if (is_empty && parts.size() == 4) {
    const Slot rebuilt = rebuild_tensor(heap, Arguments(heap, type, state));
    tensor = heap.tensor(heap.object(rebuilt));
    tensor.is_parameter = heap.is(type, Role::parameter_class);
  } else if (is_empty && parts.size() == 5) {
    const Arguments args(heap, type, state);
    tensor = args.tensor(0);
    args.expect_no_hooks(2);
    tensor.requires_grad = args.boolean(3);
    tensor.is_parameter = heap.is(type, Role::parameter_class);
    if (parts[1].tag != Tag::none) set_gradient(heap, args, target, tensor);
  } else {
    return false;
  }
  heap.become_tensor(target, std::move(tensor));
  return true;
}

}  // namespace torchkeep::pickle
