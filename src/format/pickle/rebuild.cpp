// SPDX-License-Identifier: BSD-3-Clause
// What the allow-listed callables stand for: REDUCE of one becomes an object here, and nothing is called.
#include <algorithm>
#include <array>
#include <fmt/format.h>

#include "heap.h"
#include "show.h"
#include "text.h"

namespace torchkeep::pickle {
namespace {

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
    const Global& global = heap_.global(callee_);
    heap_.fail(code, fmt::format("{}.{}: {}", global.module, global.name, message));
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

Slot add_tensor(Heap& heap, const Arguments& args, Tensor tensor) {
  try {
    tensor.validate();
  } catch (const Error& error) {
    args.fail(error.message(), error.code());
  }
  return heap.make_tensor(std::move(tensor));
}

// storage, offset, size, stride: how every rebuild of a strided tensor begins
Tensor strided(const Arguments& args) {
  Tensor tensor;
  tensor.storage = args.storage(0).storage;
  tensor.dtype = args.storage(0).dtype;
  tensor.storage_offset = args.integer(1);
  tensor.sizes = args.integers(2);
  tensor.strides = args.integers(3);
  return tensor;
}

// {'conj': True} and / or {'neg': True}
void read_metadata(const Heap& heap, const Arguments& args, std::size_t i, Tensor& tensor) {
  if (args[i].tag == Tag::none) return;
  if (!heap.is(args[i], ObjectKind::dict)) args.wrong(i, "a dict");
  const auto items = heap.items(args[i]);
  for (std::size_t k = 0; k < items.size(); k += 2) {
    const std::string_view key = items[k].tag == Tag::string ? heap.text(items[k]) : std::string_view();
    if ((key != "conj" && key != "neg") || items[k + 1].tag != Tag::boolean) {
      args.fail(fmt::format("tensor metadata '{}'; only conj and neg are known", detail::show(key)), Code::unsupported);
    }
    (key == "conj" ? tensor.is_conj : tensor.is_neg) = items[k + 1].integer != 0;
  }
}

Slot rebuild_tensor(Heap& heap, const Arguments& args) {
  args.expect(4, 4);
  return add_tensor(heap, args, strided(args));
}

Slot rebuild_tensor_v2(Heap& heap, const Arguments& args) {
  args.expect(6, 7);
  Tensor tensor = strided(args);
  tensor.requires_grad = args.boolean(4);
  args.expect_no_hooks(5);
  if (args.count() == 7) read_metadata(heap, args, 6, tensor);
  return add_tensor(heap, args, std::move(tensor));
}

Slot rebuild_tensor_v3(Heap& heap, const Arguments& args) {
  args.expect(7, 8);
  Tensor tensor = strided(args);
  tensor.requires_grad = args.boolean(4);
  args.expect_no_hooks(5);
  tensor.dtype = args.dtype(6);
  if (args.count() == 8) read_metadata(heap, args, 7, tensor);
  return add_tensor(heap, args, std::move(tensor));
}

Slot rebuild_parameter(Heap& heap, const Arguments& args, bool has_state) {
  args.expect(3 + has_state, 3 + has_state);
  Tensor tensor = args.tensor(0);
  tensor.is_parameter = true;
  tensor.requires_grad = args.boolean(1);
  args.expect_no_hooks(2);
  if (has_state && !heap.is(args[3], ObjectKind::dict)) args.fail("attributes that are not a dict", Code::unsupported);
  const Slot result = heap.make_tensor(std::move(tensor));
  if (has_state) heap.object(result).attributes = static_cast<std::uint32_t>(args[3].index + 1);
  return result;
}

// (scheme, scale, zero_point) or (scheme, scales, zero_points, axis)
std::shared_ptr<const Quantizer> read_quantizer(const Heap& heap, const Arguments& args, std::size_t i) {
  if (!heap.is(args[i], ObjectKind::tuple)) args.wrong(i, "a tuple");
  const auto items = heap.items(args[i]);
  if (items.empty() || !heap.is(items[0], Role::scheme)) args.fail("no quantization scheme");
  auto quantizer = std::make_shared<Quantizer>();
  quantizer->scheme = heap.global(items[0]).name;
  const bool per_channel = quantizer->scheme.starts_with("per_channel");
  if (per_channel) {
    if (items.size() != 4 || !heap.is(items[1], ObjectKind::tensor) || !heap.is(items[2], ObjectKind::tensor) ||
        items[3].tag != Tag::integer) {
      args.fail(fmt::format("{} wants two tensors and an axis", quantizer->scheme), Code::unsupported);
    }
    quantizer->scales = std::make_shared<Tensor>(heap.tensor(heap.object(items[1])));
    quantizer->zero_points = std::make_shared<Tensor>(heap.tensor(heap.object(items[2])));
    quantizer->axis = items[3].integer;
  } else {
    if (items.size() != 3 || items[1].tag != Tag::real || items[2].tag != Tag::integer) {
      args.fail(fmt::format("{} wants a scale and a zero point", quantizer->scheme));
    }
    quantizer->scale = items[1].real;
    quantizer->zero_point = items[2].integer;
  }
  return quantizer;
}

Slot rebuild_quantized(Heap& heap, const Arguments& args) {
  args.expect(7, 7);
  Tensor tensor = strided(args);
  tensor.quantizer = read_quantizer(heap, args, 4);
  tensor.requires_grad = args.boolean(5);
  args.expect_no_hooks(6);
  return add_tensor(heap, args, std::move(tensor));
}

// dtype, size, stride, requires_grad: a tensor without bytes
Slot rebuild_meta(Heap& heap, const Arguments& args) {
  args.expect(4, 4);
  Tensor tensor;
  tensor.dtype = args.dtype(0);
  tensor.sizes = args.integers(1);
  tensor.strides = args.integers(2);
  tensor.requires_grad = args.boolean(3);
  if (tensor.sizes.size() != tensor.strides.size()) args.fail("sizes and strides of different lengths");
  tensor.storage = std::make_shared<OwnedStorage>(0, "meta");
  return heap.make_tensor(std::move(tensor));
}

// layout, (indices, values, size [, is_coalesced]) or (compressed, plain, values, size)
Slot rebuild_sparse(Heap& heap, const Arguments& args) {
  args.expect(2, 2);
  const Object* layout = heap.is(args[0], ObjectKind::opaque) ? &heap.object(args[0]) : nullptr;
  if (layout == nullptr || heap.opaque_global(*layout).role != Role::layout) args.wrong(0, "a layout");
  SparseParts parts;
  parts.layout = heap.text(heap.items(heap.items(*layout)[kOpaqueArgs])[0]);
  if (parts.layout.starts_with("torch.")) parts.layout.erase(0, 6);
  const bool coo = parts.layout == "sparse_coo";
  if (!parts.layout.starts_with("sparse_"))
    args.fail(fmt::format("a tensor of layout {}", detail::show(parts.layout)), Code::unsupported);
  const Arguments data(heap, args.callee(), args[1]);
  if (coo ? data.count() != 3 && data.count() != 4 : data.count() != 4) args.fail("wrong number of parts");
  const std::size_t tensors = coo ? 2 : 3;
  for (std::size_t i = 0; i < tensors; ++i) {
    if (!heap.is(data[i], ObjectKind::tensor))
      args.fail(fmt::format("part {} is {}, not a tensor", i + 1, heap.describe(data[i])));
  }
  if (!heap.is(data[tensors], ObjectKind::size) && !heap.is(data[tensors], ObjectKind::tuple)) args.fail("no size");
  parts.sizes = data.integers(tensors);
  if (coo && data.count() == 4) {
    if (data[3].tag != Tag::boolean) args.fail("is_coalesced is not a bool");
    parts.is_coalesced = data[3].integer != 0;
  }
  const std::array<Slot, 3> items = {data[0], coo ? Slot{} : data[1], coo ? data[1] : data[2]};
  return heap.make_sparse(std::move(parts), items);
}

Slot rebuild_nested(Heap& heap, const Arguments& args) {
  args.expect(4, 4);
  for (std::size_t i = 0; i < 4; ++i) args.tensor(i);
  return heap.make_object(ObjectKind::nested, args.slots());
}

// function, type, args, state: a tensor with Python attributes
Slot rebuild_from_type(Heap& heap, const Arguments& args) {
  args.expect(4, 4);
  if (args[0].tag != Tag::global) args.wrong(0, "a rebuild function");
  const Role function = heap.global(args[0]).role;
  if (function < Role::tensor || function > Role::meta) args.wrong(0, "a rebuild function");
  if (!heap.is(args[1], Role::tensor_class) && !heap.is(args[1], Role::parameter_class)) {
    args.fail(fmt::format("a tensor of {}", heap.describe(args[1])), Code::unsupported);
  }
  if (!heap.is(args[3], ObjectKind::dict)) args.fail("attributes that are not a dict", Code::unsupported);
  const Slot result = call(heap, args[0], args[2]);
  heap.object(result).attributes = static_cast<std::uint32_t>(args[3].index + 1);
  return result;
}

// A container made from one optional argument, which is a list, tuple, set or (for mappings) a dict.
Slot make_container(Heap& heap, const Arguments& args, ObjectKind kind) {
  args.expect(0, 1);
  if (args.count() == 0) return heap.make_object(kind);
  const bool is_mapping = kind == ObjectKind::ordered_dict || kind == ObjectKind::counter;
  const Slot source = args[0];
  const bool fits = is_mapping ? heap.is(source, ObjectKind::dict)
                               : heap.is(source, ObjectKind::list) || heap.is(source, ObjectKind::tuple) ||
                                     heap.is(source, ObjectKind::set);
  if (!fits) args.wrong(0, is_mapping ? "a dict" : "a list");
  const std::vector<Slot> items(heap.items(source).begin(), heap.items(source).end());
  return heap.make_object(kind, items);
}

Slot make_size(Heap& heap, const Arguments& args) {
  args.expect(1, 1);
  args.integers(0);
  return make_container(heap, args, ObjectKind::size);
}

// ('cpu',) or ('cuda', 1)
Slot make_device(Heap& heap, const Arguments& args) {
  args.expect(1, 2);
  std::string name(args.text(0));
  if (args.count() == 2) name += fmt::format(":{}", args.integer(1));
  const Slot text = heap.make_decoded(Tag::string, name);
  return heap.make_object(ObjectKind::device, std::span(&text, 1));
}

Slot make_complex(Heap& heap, const Arguments& args) {
  args.expect(2, 2);
  const std::array<Slot, 2> parts = {Heap::make_real(args.real(0)), Heap::make_real(args.real(1))};
  return heap.make_object(ObjectKind::complex, parts);
}

Slot make_bytearray(Heap& heap, const Arguments& args) {
  args.expect(0, 1);
  const Slot bytes = args.count() == 0 ? heap.make_decoded(Tag::bytes, {}) : args[0];
  if (bytes.tag != Tag::bytes) args.wrong(0, "bytes");
  return heap.make_object(ObjectKind::bytearray, std::span(&bytes, 1));
}

Slot make_bytes(Heap& heap, const Arguments& args) {
  args.expect(0, 0);
  return heap.make_decoded(Tag::bytes, {});
}

// Bytes as a text of the characters 0 to 255: how protocol 2 writes them
Slot encode_latin1(Heap& heap, const Arguments& args) {
  args.expect(2, 2);
  if (args.text(1) != "latin1")
    args.fail(fmt::format("encoding '{}', expected 'latin1'", detail::show(args.text(1))), Code::unsupported);
  const auto bytes = utf8_to_latin1(args.text(0));
  if (!bytes) args.fail("a character above 255");
  return heap.make_decoded(Tag::bytes, *bytes);
}

// PyTorch has no other way to write a layout; as a value of its own it stays an Opaque.
Slot make_layout(Heap& heap, const Arguments& args, Slot tuple) {
  args.expect(1, 1);
  args.text(0);
  return heap.make_opaque(args.callee(), Opaque::Form::reduce, tuple);
}

}  // namespace

Slot call(Heap& heap, Slot callee, Slot slot) {
  if (callee.tag != Tag::global) heap.fail(Code::refused, fmt::format("a call of {}", heap.describe(callee)));
  if (heap.is(callee, Role::unknown)) return heap.make_opaque(callee, Opaque::Form::reduce, slot);
  const Arguments args(heap, callee, slot);
  switch (heap.global(callee).role) {
    case Role::ordered_dict:
      return make_container(heap, args, ObjectKind::ordered_dict);
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
    case Role::from_type:
      return rebuild_from_type(heap, args);
    case Role::unknown:
    case Role::dtype:
    case Role::scheme:
    case Role::storage_class:
    case Role::tensor_class:
    case Role::parameter_class:
      break;
  }
  args.fail("cannot be called", Code::unsupported);
}

}  // namespace torchkeep::pickle
