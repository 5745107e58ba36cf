// SPDX-License-Identifier: BSD-3-Clause
// The functions that rebuild a tensor from a storage, or from dense tensors.
#include "rebuild.h"

#include <array>
#include <fmt/format.h>

#include "show.h"

namespace torchkeep::pickle {
namespace {

// storage, offset, size, stride: how every rebuild of a strided tensor begins
Tensor strided(const Heap& heap, const Arguments& args) {
  const LoadedStorage& loaded = args.storage(0);
  Tensor tensor;
  tensor.storage = loaded.storage;
  tensor.dtype = loaded.dtype;
  tensor.storage_offset = args.integer(1);
  tensor.sizes = args.integers(2);
  tensor.strides = args.integers(3);
  if (loaded.count) args.check([&] { place_in_view(tensor, loaded, heap.context().limits); });
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

// The scales or zero points of a tensor: one number per channel, in a tensor or (in old files) a list.
template <class T>
std::shared_ptr<const Tensor> read_channels(const Heap& heap, const Arguments& args, Slot slot) {
  if (heap.is(slot, ObjectKind::tensor)) return std::make_shared<Tensor>(heap.tensor(heap.object(slot)));
  if (!heap.is(slot, ObjectKind::list)) args.fail(fmt::format("numbers per channel in {}", heap.describe(slot)));
  std::vector<T> numbers;
  for (const Slot item : heap.items(slot)) {
    if (item.tag != Tag::integer && item.tag != Tag::real) args.fail("a number per channel that is none");
    if (std::is_integral_v<T> && item.tag != Tag::integer) args.fail("a zero point that is not an int");
    numbers.push_back(item.tag == Tag::integer ? static_cast<T>(item.integer) : static_cast<T>(item.real));
  }
  return std::make_shared<Tensor>(Tensor::of<T>({static_cast<std::int64_t>(numbers.size())}, numbers));
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
    if (items.size() != 4 || items[3].tag != Tag::integer) {
      args.fail(fmt::format("{} wants two tensors and an axis", quantizer->scheme));
    }
    quantizer->scales = read_channels<double>(heap, args, items[1]);
    quantizer->zero_points = read_channels<std::int64_t>(heap, args, items[2]);
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

void check_channels(const Arguments& args, const Tensor& tensor) {
  const Quantizer& quantizer = *tensor.quantizer;
  if (quantizer.scales == nullptr) return;
  if (quantizer.axis < 0 || quantizer.axis >= tensor.dim()) {
    args.fail(fmt::format("axis {} of a tensor of {} dimensions", quantizer.axis, tensor.dim()));
  }
  const std::int64_t channels = tensor.sizes[static_cast<std::size_t>(quantizer.axis)];
  const bool real_zero_points = quantizer.scheme.ends_with("float_qparams");
  const DTypeClass of_zero_points = info(quantizer.zero_points->dtype).kind;
  if (info(quantizer.scales->dtype).kind != DTypeClass::floating ||
      (real_zero_points ? of_zero_points != DTypeClass::floating
                        : of_zero_points != DTypeClass::integer && of_zero_points != DTypeClass::floating)) {
    args.fail(fmt::format("{} scales and {} zero points per channel", to_string(quantizer.scales->dtype),
                          to_string(quantizer.zero_points->dtype)));
  }
  if (quantizer.scales->is_meta() || quantizer.zero_points->is_meta() || quantizer.scales->dim() != 1 ||
      quantizer.zero_points->dim() != 1) {
    args.fail("scales and zero points that are not one number per channel");
  }
  if (quantizer.scales->numel() != channels || quantizer.zero_points->numel() != channels) {
    args.fail(fmt::format("{} scales and {} zero points for {} channels", quantizer.scales->numel(),
                          quantizer.zero_points->numel(), channels));
  }
}

// Rows of indices and values must belong to each other and to the shape. Whether each index lies inside the shape is
// for whoever makes a sparse tensor of it to check: the bytes are not read yet.
void check_coo(const Arguments& args, const SparseParts& parts, const Tensor& indices, const Tensor& values) {
  if (indices.dtype != DType::int64 || indices.dim() != 2 || values.dim() < 1 || indices.sizes[1] != values.sizes[0] ||
      static_cast<std::int64_t>(parts.sizes.size()) != indices.sizes[0] + values.dim() - 1) {
    args.fail("indices, values and size of a sparse tensor that do not fit each other");
  }
  for (const std::int64_t size : parts.sizes) {
    if (size < 0) args.fail("a negative size");
  }
}

}  // namespace

Slot add_tensor(Heap& heap, const Arguments& args, Tensor tensor) {
  args.check([&] { check_extent(tensor, heap.context().limits); });
  return heap.make_tensor(std::move(tensor));
}

Slot rebuild_tensor(Heap& heap, const Arguments& args) {
  args.expect(4, 4);
  return add_tensor(heap, args, strided(heap, args));
}

Slot rebuild_tensor_v2(Heap& heap, const Arguments& args) {
  args.expect(6, 7);
  Tensor tensor = strided(heap, args);
  tensor.requires_grad = args.boolean(4);
  args.expect_no_hooks(5);
  if (args.count() == 7) read_metadata(heap, args, 6, tensor);
  return add_tensor(heap, args, std::move(tensor));
}

Slot rebuild_tensor_v3(Heap& heap, const Arguments& args) {
  args.expect(7, 8);
  Tensor tensor = strided(heap, args);
  tensor.requires_grad = args.boolean(4);
  args.expect_no_hooks(5);
  tensor.dtype = args.dtype(6);
  if (heap.context().view_as) heap.context().view_as(*tensor.storage, tensor.dtype);
  if (args.count() == 8) read_metadata(heap, args, 7, tensor);
  return add_tensor(heap, args, std::move(tensor));
}

Slot rebuild_quantized(Heap& heap, const Arguments& args) {
  args.expect(7, 7);
  Tensor tensor = strided(heap, args);
  tensor.quantizer = read_quantizer(heap, args, 4);
  check_channels(args, tensor);
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
  tensor.storage = std::make_shared<MetaStorage>();
  return add_tensor(heap, args, std::move(tensor));
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
  for (std::size_t i = 0; i < tensors; ++i) data.tensor(i);
  if (!heap.is(data[tensors], ObjectKind::size) && !heap.is(data[tensors], ObjectKind::tuple)) args.fail("no size");
  parts.sizes = data.integers(tensors);
  if (coo && data.count() == 4) {
    if (data[3].tag != Tag::boolean) args.fail("is_coalesced is not a bool");
    parts.is_coalesced = data[3].integer != 0;
  }
  if (coo) check_coo(args, parts, data.tensor(0), data.tensor(1));
  const std::array<Slot, 3> items = {data[0], coo ? Slot{} : data[1], coo ? data[1] : data[2]};
  return heap.make_sparse(std::move(parts), items);
}

Slot rebuild_nested(Heap& heap, const Arguments& args) {
  args.expect(4, 4);
  for (std::size_t i = 0; i < 4; ++i) args.tensor(i);
  // A file pays for every number that says where a part lies: they are read one by one.
  for (std::size_t i = 1; i < 4; ++i) {
    const Tensor& numbers = args.tensor(i);
    if (!numbers.is_meta() && numbers.nbytes() > numbers.storage->nbytes())
      args.fail("sizes, strides or offsets that repeat their memory");
  }
  return heap.make_object(ObjectKind::nested, args.slots());
}

}  // namespace torchkeep::pickle
