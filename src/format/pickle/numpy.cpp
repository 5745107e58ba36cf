// SPDX-License-Identifier: BSD-3-Clause
// NumPy's arrays and scalars: those whose dtype PyTorch has too become tensors and numbers, the others stay Opaque.
#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstring>
#include <fmt/format.h>

#include <torchkeep/base/checked.h>

#include "rebuild.h"

namespace torchkeep::pickle {
namespace {

/// A numpy.dtype that PyTorch has too.
struct NumpyType {
  DType dtype;
  bool is_swapped;  // big-endian
};

std::optional<DType> dtype_from_code(std::string_view code) noexcept {
  struct Row {
    std::string_view code;
    DType dtype;
  };
  constexpr Row kRows[] = {{"b1", DType::boolean},   {"i1", DType::int8},       {"i2", DType::int16},
                           {"i4", DType::int32},     {"i8", DType::int64},      {"u1", DType::uint8},
                           {"u2", DType::uint16},    {"u4", DType::uint32},     {"u8", DType::uint64},
                           {"f2", DType::float16},   {"f4", DType::float32},    {"f8", DType::float64},
                           {"c8", DType::complex64}, {"c16", DType::complex128}};
  for (const Row& row : kRows) {
    if (row.code == code) return row.dtype;
  }
  return std::nullopt;
}

bool is_text(Slot slot) noexcept {
  return slot.tag == Tag::string || slot.tag == Tag::bytes;
}

// numpy.dtype('f8', False, True), then BUILD (3, '<', None, None, None, -1, -1, 0): version, byte order, and what only
// structured types have
std::optional<NumpyType> read_type(const Heap& heap, Slot slot) {
  if (!heap.is(slot, ObjectKind::opaque) || !heap.is(heap.opaque_class(slot), Role::numpy_dtype)) return std::nullopt;
  const auto parts = heap.items(slot);
  const auto args = heap.items(parts[kOpaqueArgs]);
  if (args.empty() || !is_text(args[0])) return std::nullopt;
  std::string_view code = heap.text(args[0]);
  char order = '=';
  if (!code.empty() && std::string_view("<>=|").find(code[0]) != std::string_view::npos) {
    order = code[0];
    code.remove_prefix(1);
  }
  const auto dtype = dtype_from_code(code);
  if (!dtype) return std::nullopt;
  const Slot state = parts[kOpaqueState];
  if (heap.is(state, ObjectKind::tuple)) {
    const auto fields = heap.items(state);
    if (fields.size() < 5 || !is_text(fields[1]) || heap.text(fields[1]).size() != 1) return std::nullopt;
    for (std::size_t i = 2; i < 5; ++i) {
      if (fields[i].tag != Tag::none) return std::nullopt;
    }
    order = heap.text(fields[1])[0];
  }
  return NumpyType{*dtype, order == '>'};
}

std::optional<std::vector<std::int64_t>> read_shape(const Heap& heap, Slot slot) {
  if (!heap.is(slot, ObjectKind::tuple) || heap.items(slot).size() > heap.context().limits.max_dimensions)
    return std::nullopt;
  std::vector<std::int64_t> shape;
  for (const Slot item : heap.items(slot)) {
    if (item.tag != Tag::integer || item.integer < 0) return std::nullopt;
    shape.push_back(item.integer);
  }
  return shape;
}

void swap_bytes(MutableBytes bytes, std::size_t size) noexcept {
  for (std::size_t i = 0; i + size <= bytes.size(); i += size)
    std::reverse(bytes.begin() + i, bytes.begin() + i + size);
}

std::vector<std::int64_t> fortran_strides(const std::vector<std::int64_t>& shape) {
  std::vector<std::int64_t> reversed(shape.rbegin(), shape.rend());
  reversed = contiguous_strides(reversed);
  return {reversed.rbegin(), reversed.rend()};
}

// An array over its own copy of `bytes`; an error when the bytes are not as many as the shape says.
Tensor make_array(Heap& heap, NumpyType type, std::vector<std::int64_t> shape, bool is_fortran,
                  std::string_view bytes) {
  std::optional<std::int64_t> wanted = static_cast<std::int64_t>(itemsize(type.dtype));
  for (const std::int64_t size : shape) {
    if (wanted) wanted = checked_mul(*wanted, size);
  }
  if (!wanted || static_cast<std::uint64_t>(*wanted) != bytes.size()) {
    heap.fail(Code::corrupt, fmt::format("a NumPy array whose {} bytes do not fit its shape", bytes.size()));
  }
  heap.charge(bytes.size());
  const auto storage = std::make_shared<OwnedStorage>(as_bytes(bytes));
  if (type.is_swapped) swap_bytes(storage->mutable_bytes(), info(type.dtype).component_size);
  Tensor tensor;
  tensor.dtype = type.dtype;
  tensor.strides = is_fortran ? fortran_strides(shape) : contiguous_strides(shape);
  tensor.sizes = std::move(shape);
  tensor.storage = storage;
  return tensor;
}

template <class T>
T load(Bytes bytes, std::size_t index = 0) noexcept {
  T value;
  std::memcpy(&value, bytes.data() + index * sizeof(T), sizeof(T));
  return value;
}

double load_half(Bytes bytes) noexcept {
  const auto bits = load<std::uint16_t>(bytes);
  const int exponent = bits >> 10 & 0x1f;
  const std::uint64_t fraction = bits & 0x3ff;
  constexpr std::uint64_t kInfinity = 0x7ff0'0000'0000'0000;
  const double magnitude = exponent == 0    ? std::ldexp(static_cast<double>(fraction), -24)
                           : exponent == 31 ? std::bit_cast<double>(kInfinity | fraction << 42)
                                            : std::ldexp(static_cast<double>(fraction + 1024), exponent - 25);
  return (bits & 0x8000) != 0 ? -magnitude : magnitude;
}

Slot make_complex_slot(Heap& heap, double real, double imaginary) {
  const std::array<Slot, 2> parts = {Heap::make_real(real), Heap::make_real(imaginary)};
  return heap.make_object(ObjectKind::complex, parts);
}

// One element of a tensor as the Python number with the same value
Slot make_number(Heap& heap, DType dtype, Bytes bytes) {
  switch (dtype) {
    case DType::boolean:
      return Heap::make_boolean(load<std::uint8_t>(bytes) != 0);
    case DType::int8:
      return Heap::make_integer(load<std::int8_t>(bytes));
    case DType::int16:
      return Heap::make_integer(load<std::int16_t>(bytes));
    case DType::int32:
      return Heap::make_integer(load<std::int32_t>(bytes));
    case DType::int64:
      return Heap::make_integer(load<std::int64_t>(bytes));
    case DType::uint8:
      return Heap::make_integer(load<std::uint8_t>(bytes));
    case DType::uint16:
      return Heap::make_integer(load<std::uint16_t>(bytes));
    case DType::uint32:
      return Heap::make_integer(load<std::uint32_t>(bytes));
    case DType::uint64: {
      const Integer number = Integer::from_unsigned(load<std::uint64_t>(bytes));
      if (const auto small = number.to_int64()) return Heap::make_integer(*small);
      return heap.make_decoded(Tag::big_integer, number.to_twos_complement());
    }
    case DType::float16:
      return Heap::make_real(load_half(bytes));
    case DType::float32:
      return Heap::make_real(load<float>(bytes));
    case DType::float64:
      return Heap::make_real(load<double>(bytes));
    case DType::complex64:
      return make_complex_slot(heap, load<float>(bytes), load<float>(bytes, 1));
    default:
      return make_complex_slot(heap, load<double>(bytes), load<double>(bytes, 1));
  }
}

}  // namespace

// numpy._core.multiarray._reconstruct(numpy.ndarray, (0,), b'b'), then BUILD (1, shape, dtype, is_fortran, bytes)
std::optional<Tensor> numpy_array(Heap& heap, Slot state) {
  if (!heap.is(state, ObjectKind::tuple)) return std::nullopt;
  const std::vector<Slot> fields(heap.items(state).begin(), heap.items(state).end());
  if (fields.size() != 5 || fields[3].tag != Tag::boolean || !is_text(fields[4])) return std::nullopt;
  const auto type = read_type(heap, fields[2]);
  auto shape = read_shape(heap, fields[1]);
  if (!type || !shape) return std::nullopt;
  return make_array(heap, *type, std::move(*shape), fields[3].integer != 0, heap.text(fields[4]));
}

// dtype, bytes
Slot numpy_scalar(Heap& heap, const Arguments& args, Slot tuple) {
  args.expect(1, 2);
  const auto type = args.count() == 2 && is_text(args[1]) ? read_type(heap, args[0]) : std::nullopt;
  if (!type) return heap.make_opaque(args.callee(), Opaque::Form::reduce, tuple);
  std::string bytes(heap.text(args[1]));
  if (bytes.size() != itemsize(type->dtype)) args.fail(fmt::format("{} bytes for a number", bytes.size()));
  const auto element = std::as_writable_bytes(std::span(bytes));
  if (type->is_swapped) swap_bytes(element, info(type->dtype).component_size);
  return make_number(heap, type->dtype, element);
}

// buffer, dtype, shape, order ('C' or 'F')
Slot numpy_from_buffer(Heap& heap, const Arguments& args, Slot tuple) {
  args.expect(4, 4);
  const bool is_bytearray = heap.is(args[0], ObjectKind::bytearray);
  const Slot buffer = is_bytearray ? heap.items(args[0])[0] : args[0];
  const auto type = is_text(buffer) ? read_type(heap, args[1]) : std::nullopt;
  auto shape = read_shape(heap, args[2]);
  if (!type || !shape) return heap.make_opaque(args.callee(), Opaque::Form::reduce, tuple);
  const bool is_fortran = args.text(3) == "F";
  return heap.make_tensor(make_array(heap, *type, std::move(*shape), is_fortran, heap.text(buffer)));
}

}  // namespace torchkeep::pickle
